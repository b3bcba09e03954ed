//! `DeiTForImageClassificationWithTeacher`, `DeiTForImageClassification` and `DeiTModel` of
//! transformers.

use super::super::{Head, VisionTransformerConfig};
use super::{Family, hugging_face::HuggingFaceConfig, vit};
use crate::models::checkpoint::{
    Checkpoint, CheckpointError, NameTable, Source, Source::Whole, Weights,
};

pub(super) const FAMILY: Family = Family {
    classes: &["DeiTForImageClassification", "DeiTModel"],
    config,
    names: names(&[("head", Whole("classifier"))]),
};

pub(super) const WITH_TEACHER: Family = Family {
    classes: &["DeiTForImageClassificationWithTeacher"],
    config,
    names: names(&[
        ("head", Whole("cls_classifier")),
        ("distillation_head", Whole("distillation_classifier")),
    ]),
};

const fn names(heads: &'static [(&'static str, Source)]) -> NameTable {
    NameTable {
        prefixes: &["deit."],
        backbone: &vit::BACKBONE,
        heads,
        ignored: &["embeddings.mask_token"],
    }
}

fn config(
    checkpoint: &Checkpoint,
    weights: &Weights,
) -> Result<VisionTransformerConfig, CheckpointError> {
    let file: HuggingFaceConfig = checkpoint.config()?;
    let outputs = file.labels();
    let head = match checkpoint.architecture() {
        Some("DeiTForImageClassificationWithTeacher") => Head::ClassAndDistillation { outputs },
        Some("DeiTForImageClassification") => Head::ClassToken {
            outputs,
            bias: true,
        },
        _ => Head::None,
    };
    Ok(file
        .sizes(checkpoint)?
        .with_distillation_token(true)
        .with_pooler(weights.contains("pooler.dense.weight"))
        .with_head(head))
}
