//! What crosses crates is tested here: goldens, the device matrix, the command line.
