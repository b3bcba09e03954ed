use burn::data::dataloader::Progress;
use burn_train::metric::{self, MetricAttributes, MetricMetadata, Numeric};
use serde::{Deserialize, Serialize};

use super::TrainingError;

/// A named number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What it counts.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what, such as `%`.
    pub unit: Option<String>,
}

impl Metric {
    /// A metric of this name, without a unit.
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            unit: None,
        }
    }

    /// What one of burn-train's [metrics](burn_train::metric) says of all of `batches`.
    ///
    /// ```
    /// use attention_models::training::Metric;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_train::metric::{AccuracyInput, AccuracyMetric};
    ///
    /// let device = Device::flex();
    /// let logits = Tensor::from_data([[0.1, 0.9], [0.8, 0.2]], &device);
    /// let labels = Tensor::from_data([1, 1], &device);
    /// let batches = [AccuracyInput::new(logits, labels)];
    /// let accuracy = Metric::measured(AccuracyMetric::new(), batches)?;
    /// assert_eq!(accuracy.to_string(), "Accuracy 50.00 %");
    /// # Ok::<(), attention_models::training::TrainingError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`TrainingError::Device`] for a tensor that cannot be read.
    pub fn measured<M: metric::Metric + Numeric>(
        mut metric: M,
        batches: impl IntoIterator<Item = M::Input>,
    ) -> Result<Self, TrainingError> {
        for (batch, input) in batches.into_iter().enumerate() {
            let metadata = MetricMetadata {
                progress: Progress::new(batch, batch + 1, None),
                iteration: Some(batch),
                lr: None,
            };
            metric.update(&input, &metadata)?;
        }
        metric.compute()?;
        let unit = match metric.attributes() {
            MetricAttributes::Numeric(attributes) => attributes.unit,
            MetricAttributes::None => None,
        };
        Ok(Self {
            name: metric.name().to_string(),
            value: metric.final_value().current(),
            unit,
        })
    }

    /// The metric under another name.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// `Accuracy 98.20 %`
impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, value, unit } = self;
        match unit {
            Some(unit) => write!(f, "{name} {value:.2} {unit}"),
            None => write!(f, "{name} {value:.4}"),
        }
    }
}
