/// What the files of one family call the parts of a module.
///
/// Left in each pair stands the path of a module or parameter, `{}` for the number of a layer;
/// right its name in the file. A parameter that no line covers has the same name in the file's
/// backbone.
#[derive(Debug, Clone, Copy)]
pub struct NameTable {
    /// What may stand before every name of `backbone`: `vit.`, `vision_model.`.
    pub prefixes: &'static [&'static str],
    /// The names that may have a prefix.
    pub backbone: &'static [(&'static str, Source)],
    /// The names that never have one.
    pub heads: &'static [(&'static str, Source)],
    /// Tensors that the family's files may hold and that take no part in inference, without
    /// prefix.
    pub ignored: &'static [&'static str],
}

/// Where the tensors of a module lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Under this name.
    Whole(&'static str),
    /// In one of several equal blocks of rows under this name, as a fused query-key-value
    /// projection has them.
    Rows {
        /// The name.
        of: &'static str,
        /// Which block.
        part: usize,
        /// How many blocks there are.
        parts: usize,
    },
}

/// Where one tensor lies in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) name: String,
    /// The block of rows and how many blocks there are.
    pub(super) rows: Option<(usize, usize)>,
}

impl NameTable {
    /// The prefix that this file uses.
    pub(super) fn prefix_among<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str>,
    ) -> &'static str {
        names
            .find_map(|name| {
                self.prefixes
                    .iter()
                    .find(|prefix| name.starts_with(**prefix))
            })
            .copied()
            .unwrap_or("")
    }

    /// Where the tensor `path` of a module lies in a file that uses `prefix`.
    pub(super) fn locate(&self, path: &str, prefix: &str) -> Location {
        let backbone = self.backbone.iter().map(|line| (prefix, line));
        let heads = self.heads.iter().map(|line| ("", line));
        backbone
            .chain(heads)
            .find_map(|(prefix, (module, source))| {
                let (layer, rest) = match_path(module, path)?;
                let (name, rows) = match *source {
                    Source::Whole(name) => (name, None),
                    Source::Rows { of, part, parts } => (of, Some((part, parts))),
                };
                let name = format!("{prefix}{}{rest}", name.replace("{}", layer));
                Some(Location { name, rows })
            })
            .unwrap_or_else(|| Location {
                name: format!("{prefix}{path}"),
                rows: None,
            })
    }

    /// Whether the model has no use for this tensor and says so.
    pub(super) fn ignores(&self, name: &str, prefix: &str) -> bool {
        name.strip_prefix(prefix)
            .is_some_and(|name| self.ignored.contains(&name))
    }
}

/// What stands for `{}` in `pattern`, and what follows the pattern in `path`, if it matches.
fn match_path<'a>(pattern: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
    let (head, tail) = pattern.split_once("{}").unwrap_or((pattern, ""));
    let rest = path.strip_prefix(head)?;
    let digits = if head.len() == pattern.len() {
        0
    } else {
        rest.find(|c: char| !c.is_ascii_digit())?
    };
    let (layer, rest) = rest.split_at(digits);
    let rest = rest.strip_prefix(tail)?;
    (rest.is_empty() || rest.starts_with('.')).then_some((layer, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: NameTable = NameTable {
        prefixes: &["vit."],
        backbone: &[
            ("norm", Source::Whole("layernorm")),
            (
                "layers.{}.attention.key",
                Source::Rows {
                    of: "blocks.{}.attn.qkv",
                    part: 1,
                    parts: 3,
                },
            ),
        ],
        heads: &[("head", Source::Whole("classifier"))],
        ignored: &["embeddings.mask_token"],
    };

    #[test]
    fn a_path_is_located_under_the_files_own_name() {
        let name = |path| TABLE.locate(path, "vit.").name;
        assert_eq!(name("norm.weight"), "vit.layernorm.weight");
        assert_eq!(name("head.bias"), "classifier.bias");
        assert_eq!(name("normal.weight"), "vit.normal.weight");
        assert_eq!(
            TABLE.locate("layers.11.attention.key.bias", ""),
            Location {
                name: "blocks.11.attn.qkv.bias".to_string(),
                rows: Some((1, 3))
            }
        );
    }

    #[test]
    fn the_prefix_is_the_one_that_the_file_uses() {
        assert_eq!(
            TABLE.prefix_among(["classifier.bias", "vit.x"].into_iter()),
            "vit."
        );
        assert_eq!(TABLE.prefix_among(["layernorm.bias"].into_iter()), "");
        assert!(TABLE.ignores("vit.embeddings.mask_token", "vit."));
        assert!(!TABLE.ignores("vit.embeddings.other", "vit."));
    }
}
