//! Criterion benchmarks, each with its peers in the same run.
