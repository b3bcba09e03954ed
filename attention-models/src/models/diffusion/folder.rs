//! What diffusers writes: `config.json` beside `diffusion_pytorch_model.safetensors`.

use std::path::Path;

use burn::module::Module;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::models::checkpoint::{
    Checkpoint, CheckpointError, Format, NameTable,
    Source::{self, Whole},
};

/// Modules are called here as in the files, but for those of before 2023.
const NAMES: NameTable = NameTable {
    prefixes: &[],
    backbone: &OLDER_NAMES,
    heads: &[],
    ignored: &[],
};

/// What is called `$new` at any of these places may be called `$old`.
macro_rules! older {
    ($($place:literal)*; $new:tt $old:tt) => {
        [$(
            (concat!($place, $new), Whole(concat!($place, $new))),
            (concat!($place, $new), Whole(concat!($place, $old))),
        )*]
    };
}

/// The projections of attention blocks outside of transformers.
macro_rules! older_attention {
    ($new:tt $old:tt) => {
        older!(
            "encoder.mid_block.attentions.{}."
            "decoder.mid_block.attentions.{}."
            "down_blocks.{}.attentions.{}."
            "mid_block.attentions.{}."
            "up_blocks.{}.attentions.{}.";
            $new $old
        )
    };
}

const OLDER_NAMES: [(&str, Source); 40] = join([
    older_attention!("to_q" "query"),
    older_attention!("to_k" "key"),
    older_attention!("to_v" "value"),
    older_attention!("to_out.0" "proj_attn"),
]);

const fn join(parts: [[(&'static str, Source); 10]; 4]) -> [(&'static str, Source); 40] {
    let mut all = [parts[0][0]; 40];
    let mut index = 0;
    while index < all.len() {
        all[index] = parts[index / 10][index % 10];
        index += 1;
    }
    all
}

/// A folder of a known class.
pub(super) struct DiffusersFolder(Checkpoint);

impl DiffusersFolder {
    /// Opens a folder of one of `classes`.
    pub fn open(path: &Path, classes: &[&'static str]) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::open(path)?;
        match checkpoint.architecture() {
            Some(class) if classes.contains(&class) => Ok(Self(checkpoint)),
            _ => Err(checkpoint.wrong_architecture(classes.to_vec())),
        }
    }

    /// The configuration, of which `offered` says what other options may be.
    pub fn config<T: DeserializeOwned>(&self, offered: &[Offered]) -> Result<T, CheckpointError> {
        let options: Value = self.0.config()?;
        for option in offered {
            option
                .check(&options)
                .map_err(|reason| self.0.invalid_config(reason))?;
        }
        self.0.config()
    }

    /// The error for a configuration that makes no sense.
    pub fn invalid(&self, reason: impl std::fmt::Display) -> CheckpointError {
        self.0.invalid_config(reason)
    }

    /// The module with the folder's weights.
    pub fn load<M: Module>(&self, module: M) -> Result<M, CheckpointError> {
        self.0.weights()?.load_into(module, &NAMES)
    }
}

/// Writes a module as diffusers writes it, with this `config.json`.
pub(super) fn save<M: Module>(
    module: &M,
    config: Value,
    folder: &Path,
) -> Result<(), CheckpointError> {
    Format::new(config, NAMES).save(module, folder)
}

/// An option of a configuration that has to be absent, `null`, or one of some values.
pub(super) struct Offered {
    /// Its name in the file.
    pub name: &'static str,
    /// Its values, as JSON.
    pub values: &'static [&'static str],
}

/// An option and what it may be.
pub(super) const fn offered(name: &'static str, values: &'static [&'static str]) -> Offered {
    Offered { name, values }
}

impl Offered {
    /// Refuses another value, naming the option.
    pub fn check(&self, options: &Value) -> Result<(), String> {
        let given = &options[self.name];
        if given.is_null() || self.values.contains(&given.to_string().as_str()) {
            return Ok(());
        }
        let accepted = if self.values.is_empty() {
            "null".to_string()
        } else {
            self.values.join(", ")
        };
        Err(format!("`{}` is {given}; accepted: {accepted}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_offered_is_named_with_what_is() {
        let activation = offered("act_fn", &["\"silu\"", "\"swish\""]);
        let check = |text: &str| activation.check(&serde_json::from_str(text).unwrap());
        assert_eq!(check(r#"{"act_fn": "silu"}"#), Ok(()));
        assert_eq!(check("{}"), Ok(()));
        let refusal = "`act_fn` is \"gelu\"; accepted: \"silu\", \"swish\"".to_string();
        assert_eq!(check(r#"{"act_fn": "gelu"}"#), Err(refusal));
    }
}
