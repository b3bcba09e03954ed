/// What the files of one family call the parts of a module.
///
/// Left in each pair stands the path of a module or parameter, `{}` for a number; right its name
/// in the file, where the first `{}` takes the path's first number and so on. A parameter that no
/// line covers has the same name in the file's backbone. Where several lines cover one, the first
/// whose tensor the file has counts, so that older names can stand below newer ones.
#[derive(Debug, Clone, Copy)]
pub struct NameTable {
    /// What may stand before every name of `backbone`: `vit.`, `vision_model.`.
    pub prefixes: &'static [&'static str],
    /// The names that may have a prefix.
    pub backbone: &'static [(&'static str, Source)],
    /// The names that never have one.
    pub heads: &'static [(&'static str, Source)],
    /// Tensors that the family's files may hold and that the model has no use for, with or
    /// without prefix: `{}` stands for a number, `*` for any characters. A head that shares the
    /// embedding's tensor belongs here; it is still read where a module has a place for it.
    pub ignored: &'static [&'static str],
}

/// Where the tensors of a module lie in a file.
///
/// Shapes are PyTorch's: a `Linear` has the weight `[outputs, inputs]`. Every source serves the
/// weight of a module and its bias alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Under this name.
    Whole(&'static str),
    /// In one of several equal blocks of rows under this name, as a fused query-key-value
    /// projection or a fused gate has them.
    Rows {
        /// The name.
        of: &'static str,
        /// Which block.
        part: usize,
        /// How many blocks there are.
        parts: usize,
    },
    /// Under this name, a matrix stored `[inputs, outputs]`, as GPT-2's `Conv1D` has it.
    Transposed(&'static str),
    /// In one of several equal blocks of columns of a matrix stored `[inputs, outputs]`, as
    /// GPT-2's fused projection has them.
    Columns {
        /// The name.
        of: &'static str,
        /// Which block.
        part: usize,
        /// How many blocks there are.
        parts: usize,
    },
    /// In a projection whose rows are the queries, the key and the value of the first key-value
    /// head, then those of the second, and so on, as GPT-NeoX, BLOOM and Falcon have it. The
    /// numbers of heads are given to
    /// [`Weights::with_heads`](super::Weights::with_heads).
    Heads {
        /// The name.
        of: &'static str,
        /// Which of the three.
        part: Projection,
    },
    /// In a tensor `[experts, inputs, outputs]`; a number of the path beyond those that the name
    /// takes says which expert.
    Expert(&'static str),
    /// As `Expert`, every `parts`-th output from output `part`, as gpt-oss interleaves the gate
    /// and the inner projection.
    ExpertColumns {
        /// The name.
        of: &'static str,
        /// The first output.
        part: usize,
        /// The distance of one output from the next.
        parts: usize,
    },
}

/// One of the three projections that a fused one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// One or several heads in each group.
    Query,
    /// One head in each group.
    Key,
    /// One head in each group.
    Value,
}

/// How the rows of a fused projection are grouped: `kv_heads` groups of `heads / kv_heads`
/// queries, a key and a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key-value heads: `heads` for multi-head, 1 for multi-query attention.
    pub kv_heads: usize,
}

/// Where one tensor lies in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) name: String,
    pub(super) source: Source,
    /// The number of the path that the name does not take.
    pub(super) expert: Option<usize>,
}

impl Source {
    fn name(&self) -> &'static str {
        match *self {
            Source::Whole(of) | Source::Transposed(of) | Source::Expert(of) => of,
            Source::Rows { of, .. }
            | Source::Columns { of, .. }
            | Source::Heads { of, .. }
            | Source::ExpertColumns { of, .. } => of,
        }
    }
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

    /// Where the tensor `path` of a module lies in a file that uses `prefix` and has the tensors
    /// that `contains` knows.
    pub(super) fn locate(
        &self,
        path: &str,
        prefix: &str,
        contains: impl Fn(&str) -> bool,
    ) -> Location {
        let backbone = self.backbone.iter().map(|line| (prefix, line));
        let heads = self.heads.iter().map(|line| ("", line));
        let mut lines = backbone
            .chain(heads)
            .filter_map(|(prefix, (module, source))| {
                let (numbers, rest) = match_path(module, path)?;
                let (name, expert) = fill(source.name(), &numbers);
                Some(Location {
                    name: format!("{prefix}{name}{rest}"),
                    source: *source,
                    expert,
                })
            })
            .peekable();
        let first = lines.peek().cloned().unwrap_or_else(|| Location {
            name: format!("{prefix}{path}"),
            source: Source::Whole(""),
            expert: None,
        });
        lines
            .find(|location| contains(&location.name))
            .unwrap_or(first)
    }

    /// Whether the model has no use for this tensor and says so.
    pub(super) fn ignores(&self, name: &str, prefix: &str) -> bool {
        let bare = name.strip_prefix(prefix).unwrap_or(name);
        self.ignored
            .iter()
            .any(|pattern| matches(pattern, bare) || matches(pattern, name))
    }
}

/// What stands for each `{}` in `pattern`, and what follows the pattern in `path`, if it matches.
fn match_path<'a>(pattern: &str, path: &'a str) -> Option<(Vec<&'a str>, &'a str)> {
    let mut pieces = pattern.split("{}");
    let mut rest = path.strip_prefix(pieces.next()?)?;
    let mut numbers = Vec::new();
    for piece in pieces {
        let (number, after) = split_number(rest)?;
        numbers.push(number);
        rest = after.strip_prefix(piece)?;
    }
    (rest.is_empty() || rest.starts_with('.')).then_some((numbers, rest))
}

/// The digits at the start of `text`, of which there must be one, and what follows.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (digits > 0).then(|| text.split_at(digits))
}

/// The name with its numbers, and the first number that it does not take.
fn fill(name: &str, numbers: &[&str]) -> (String, Option<usize>) {
    let mut numbers = numbers.iter();
    let mut pieces = name.split("{}");
    let mut filled = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        filled += numbers.next().copied().unwrap_or("{}");
        filled += piece;
    }
    (
        filled,
        numbers.next().and_then(|number| number.parse().ok()),
    )
}

/// Whether `pattern` covers `name`: `{}` stands for a number, `*` for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    if let Some(pattern) = pattern.strip_prefix('*') {
        return name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| matches(pattern, &name[at..]));
    }
    if let Some(pattern) = pattern.strip_prefix("{}") {
        return split_number(name).is_some_and(|(_, rest)| matches(pattern, rest));
    }
    let mut pattern = pattern.chars();
    match pattern.next() {
        None => name.is_empty(),
        Some(first) => name
            .strip_prefix(first)
            .is_some_and(|rest| matches(pattern.as_str(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: NameTable = NameTable {
        prefixes: &["vit."],
        backbone: &[
            ("norm", Source::Whole("layernorm")),
            ("norm", Source::Whole("old_norm")),
            (
                "layers.{}.attention.key",
                Source::Rows {
                    of: "blocks.{}.attn.qkv",
                    part: 1,
                    parts: 3,
                },
            ),
            (
                "layers.{}.experts.{}.inner",
                Source::Whole("blocks.{}.experts.{}.w1"),
            ),
            (
                "layers.{}.experts.{}.outer.weight",
                Source::Expert("blocks.{}.experts.down_proj"),
            ),
        ],
        heads: &[("head", Source::Whole("classifier"))],
        ignored: &["embeddings.mask_token", "blocks.{}.attn.*masked_bias"],
    };

    fn locate(path: &str, prefix: &str) -> Location {
        TABLE.locate(path, prefix, |_| false)
    }

    #[test]
    fn a_path_is_located_under_the_files_own_name() {
        let name = |path| locate(path, "vit.").name;
        assert_eq!(name("norm.weight"), "vit.layernorm.weight");
        assert_eq!(name("head.bias"), "classifier.bias");
        assert_eq!(name("normal.weight"), "vit.normal.weight");
        let key = locate("layers.11.attention.key.bias", "");
        assert_eq!(key.name, "blocks.11.attn.qkv.bias");
        assert!(matches!(
            key.source,
            Source::Rows {
                part: 1,
                parts: 3,
                ..
            }
        ));
    }

    #[test]
    fn a_path_of_two_numbers_gives_both_to_the_name_or_one_to_the_expert() {
        let inner = locate("layers.3.experts.12.inner.weight", "");
        assert_eq!(inner.name, "blocks.3.experts.12.w1.weight");
        assert_eq!(inner.expert, None);
        let outer = locate("layers.3.experts.12.outer.weight", "");
        assert_eq!(outer.name, "blocks.3.experts.down_proj");
        assert_eq!(outer.expert, Some(12));
    }

    #[test]
    fn an_older_name_counts_where_the_file_has_only_that() {
        let old = TABLE.locate("norm.bias", "vit.", |name| name == "vit.old_norm.bias");
        assert_eq!(old.name, "vit.old_norm.bias");
        assert_eq!(locate("norm.bias", "vit.").name, "vit.layernorm.bias");
    }

    #[test]
    fn the_prefix_is_the_one_that_the_file_uses() {
        assert_eq!(
            TABLE.prefix_among(["classifier.bias", "vit.x"].into_iter()),
            "vit."
        );
        assert_eq!(TABLE.prefix_among(["layernorm.bias"].into_iter()), "");
    }

    #[test]
    fn ignored_names_may_hold_numbers_and_anything() {
        assert!(TABLE.ignores("vit.embeddings.mask_token", "vit."));
        assert!(!TABLE.ignores("vit.embeddings.other", "vit."));
        assert!(TABLE.ignores("vit.blocks.10.attn.masked_bias", "vit."));
        assert!(TABLE.ignores("blocks.1.attn.inner.masked_bias", ""));
        assert!(!TABLE.ignores("blocks.x.attn.masked_bias", ""));
        assert!(!TABLE.ignores("blocks.1.attn.masked_bias.weight", ""));
    }
}
