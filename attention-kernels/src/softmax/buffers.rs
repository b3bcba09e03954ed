//! How many buffers the kernels bind.

use attention_core::AttentionError;

use super::tensors::Inputs;

/// Query, key, value, output and log-sum-exp.
const FORWARD: u32 = 5;
/// Query, key, value, their statistics, the output's gradient and the one that is written.
const BACKWARD: u32 = 6;

/// The arguments that take a buffer each, besides query, key and value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Buffers {
    /// A boolean mask.
    pub mask: bool,
    /// An additive bias.
    pub bias: bool,
    /// Captured tensors of floats, all in one buffer.
    pub floats: bool,
    /// Captured tensors of integers, all in one buffer.
    pub integers: bool,
    /// Learned tables, all in one buffer.
    pub tables: bool,
    /// A block map.
    pub block_map: bool,
}

impl Buffers {
    pub(crate) fn of(inputs: &Inputs) -> Self {
        Self {
            mask: inputs.mask.is_some(),
            bias: inputs.bias.is_some(),
            floats: inputs.floats.is_some(),
            integers: inputs.integers.is_some(),
            tables: inputs.tables.is_some(),
            block_map: inputs.block_map.is_some(),
        }
    }

    /// Refuses more buffers than a kernel of the forward, or of the `backward`, may bind on a device
    /// that has `available`.
    ///
    /// # Errors
    /// [`AttentionError::Value`], which says how many there are, how many fit, and the way out.
    ///
    /// ```
    /// use attention_kernels::softmax::Buffers;
    ///
    /// // WebGPU promises 8, one of which carries sizes and strides.
    /// let both = Buffers { mask: true, bias: true, ..Buffers::default() };
    /// assert!(both.check(7, false).is_ok());
    /// assert_eq!(
    ///     both.check(7, true).unwrap_err().to_string(),
    ///     "`options` is 8 buffers of one kernel in the backward: 6, and mask, bias; accepted: at most 7 \
    ///      on this device; masks and biases as code share one buffer for all integers and one for \
    ///      all floats that they capture",
    /// );
    /// ```
    pub fn check(&self, available: u32, backward: bool) -> Result<(), AttentionError> {
        let given = self.given();
        let (own, pass) = if backward {
            (BACKWARD, "backward")
        } else {
            (FORWARD, "forward")
        };
        let count = own + given.len() as u32;
        if count <= available {
            return Ok(());
        }
        Err(AttentionError::Value {
            argument: "options",
            given: format!(
                "{count} buffers of one kernel in the {pass}: {own}, and {}",
                given.join(", ")
            ),
            accepted: format!(
                "at most {available} on this device; masks and biases as code share one buffer for \
                 all integers and one for all floats that they capture"
            ),
        })
    }

    /// Whether a kernel of the backward may bind one more, for a second gradient.
    pub(crate) fn leave_one(&self, available: u32) -> bool {
        BACKWARD + (self.given().len() as u32) < available
    }

    /// The names of those that there are.
    fn given(&self) -> Vec<&'static str> {
        let names = [
            (self.mask, "mask"),
            (self.bias, "bias"),
            (self.floats, "captured floats"),
            (self.integers, "captured integers"),
            (self.tables, "learned tables"),
            (self.block_map, "block map"),
        ];
        let given = names.into_iter();
        given
            .filter_map(|(given, name)| given.then_some(name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gradient_is_bound_where_one_more_buffer_may_be() {
        let masked = Buffers {
            mask: true,
            ..Buffers::default()
        };
        for (buffers, available, fits) in [
            (Buffers::default(), 7, true),
            (Buffers::default(), 6, false),
            (masked, 7, false),
            (masked, 8, true),
        ] {
            assert_eq!(
                buffers.leave_one(available),
                fits,
                "{buffers:?} of {available}"
            );
        }
    }
}
