//! Checks.

/// Explains a failed start.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    error
}
