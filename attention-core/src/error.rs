//! Refusals as data: which argument, what was given, what would be accepted.

/// Why an attention call was refused. Nothing has been launched when one of these is returned,
/// except for [`AttentionError::Launch`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A tensor's shape does not fit the other arguments.
    #[error("`{argument}` has shape {given:?}; accepted: {accepted}")]
    Shape {
        /// The argument's name as the caller spells it.
        argument: &'static str,
        /// The shape that was given.
        given: Vec<usize>,
        /// The shapes that would be accepted.
        accepted: String,
    },
    /// A tensor's element type cannot be used here.
    #[error("`{argument}` has dtype {given}; accepted: {accepted}")]
    DType {
        /// The argument's name as the caller spells it.
        argument: &'static str,
        /// The dtype that was given.
        given: String,
        /// The dtypes that would be accepted.
        accepted: String,
    },
    /// A tensor lies on another device than the query.
    #[error("`{argument}` is on device {given}; accepted: {accepted}")]
    Device {
        /// The argument's name as the caller spells it.
        argument: &'static str,
        /// The device that was given.
        given: String,
        /// The device that would be accepted.
        accepted: String,
    },
    /// An option has a value outside its domain.
    #[error("`{argument}` is {given}; accepted: {accepted}")]
    Value {
        /// The argument's name as the caller spells it.
        argument: &'static str,
        /// The value that was given.
        given: String,
        /// The values that would be accepted.
        accepted: String,
    },
    /// The device refused the launch of a kernel.
    #[error("kernel `{kernel}` could not be launched: {reason}")]
    Launch {
        /// The kernel's name in the catalog.
        kernel: &'static str,
        /// What the runtime reported.
        reason: String,
    },
}
