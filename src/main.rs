#![doc = "Walback, the program."]
fn main() {}
