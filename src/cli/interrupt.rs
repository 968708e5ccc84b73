//! Ctrl-C and SIGTERM ask the running work to stop; the third one ends the process. A terminal that goes away does not: the work goes on.

use crate::error::{Error, Result};
use crate::source::Cancel;
use crate::source::command::run::end_all;

/// From now on an interrupt asks `cancel`.
///
/// # Errors
/// When no thread can be had from the system.
pub fn on_interrupt(cancel: &Cancel) -> Result<()> {
    let cancel = cancel.clone();
    let failed = |error: &std::io::Error| Error::failed("no-signals", "cannot listen for interrupts").caused_by(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || runtime.block_on(listen(&cancel)))
        .map_err(|error| failed(&error))?;
    Ok(())
}

async fn listen(cancel: &Cancel) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return;
    };
    for asked in 1.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // Whoever closed the laptop did not say that the recovery shall end.
            _ = hangup.recv() => continue,
        }
        cancel.cancel();
        // Whatever hangs does not hear the wish; whoever insists is obeyed, and the journal knows how far it was.
        if asked == 3 {
            end_all();
            std::process::exit(i32::from(crate::error::ErrorKind::Interrupted.exit_status()));
        }
    }
}
