/*
 * A bad clock for the server of a test: it stands still for a millisecond at a time, and is up to two milliseconds fast
 * in some processes. Preloaded, it makes what good clocks make too seldom for a test: transactions that end at the very
 * same time, and transactions whose times are not in the order in which they stand in WAL.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <time.h>
#include <unistd.h>

struct timeval_like { long seconds; long micros; };

int gettimeofday(struct timeval_like *now, void *zone)
{
    struct timespec real;
    (void) zone;
    clock_gettime(CLOCK_REALTIME, &real);
    if (now != NULL) {
        long micros = real.tv_nsec / 1000000 * 1000 + (getpid() % 3) * 1000;
        now->seconds = real.tv_sec + micros / 1000000;
        now->micros = micros % 1000000;
    }
    return 0;
}
