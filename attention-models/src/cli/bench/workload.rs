//! What runs a shape.

use anyhow::{Result, anyhow};
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::shape::Shape;
use crate::{
    cli::verify::burn_dtype,
    ops::{AttentionOptions, attention, comparison::with_burn_attention},
};

/// Whose attention runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// Burn's own operation, as it ships.
    Burn,
}

/// A shape with its tensors on a device.
pub struct Workload {
    shape: Shape,
    contender: Contender,
    device: Device,
    tensors: [Tensor<4>; 3],
    options: AttentionOptions,
}

impl Workload {
    /// Random tensors.
    pub fn new(shape: Shape, contender: Contender, device: &Device) -> Self {
        let device = if shape.backward {
            device.clone().autodiff()
        } else {
            device.clone()
        };
        let dtype = burn_dtype(shape.dtype);
        let random = |dims| {
            let tensor = Tensor::<4>::random(dims, Distribution::Normal(0.0, 1.0), &device);
            let tensor = tensor.cast(dtype).detach();
            if shape.backward {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        Self {
            shape,
            contender,
            tensors: shape.dims().map(random),
            options: AttentionOptions::from(shape.spec()),
            device,
        }
    }

    /// Ours with other options, on the same tensors.
    pub fn with_options(&self, options: AttentionOptions) -> Self {
        Self {
            shape: self.shape,
            contender: Contender::Ours,
            device: self.device.clone(),
            tensors: self.tensors.clone(),
            options,
        }
    }

    /// Where the tensors lie.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it runs.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Query, key and value.
    pub fn data(&self) -> [TensorData; 3] {
        self.tensors.each_ref().map(Tensor::to_data)
    }

    /// Runs all but the attention once, so that what Burn compiles and tunes for the sum and its
    /// gradient is not taken for attention's.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn warm_up_loss(&self) -> Result<()> {
        if self.shape.backward {
            let _gradients = self.tensors[0].clone().sum().backward();
        }
        wait(&self.device)
    }

    /// Runs once and waits for the device.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run(&self) -> Result<()> {
        self.run_queued(1)
    }

    /// Gives the device so many runs and waits for the last.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run_queued(&self, runs: u32) -> Result<()> {
        let mut last = None;
        for _ in 0..runs {
            last = Some(self.attend());
        }
        wait(&self.device)?;
        drop(last);
        Ok(())
    }

    /// Runs once and reads of each result a number: only then does a device say that it failed.
    ///
    /// # Errors
    /// Such as memory that cannot be had.
    pub fn check(&self) -> Result<()> {
        for result in self.attend() {
            result
                .slice([0..1, 0..1, 0..1, 0..1])
                .try_into_data()
                .map_err(|error| anyhow!("{error:?}"))?;
        }
        Ok(())
    }

    /// The output and, with a backward, the gradients.
    fn attend(&self) -> Vec<Tensor<4>> {
        let [query, key, value] = self.tensors.clone();
        let out = match self.contender {
            Contender::Ours => attention(query, key, value, self.options.clone()),
            Contender::Burn => {
                let options = self.options.clone();
                with_burn_attention(|| attention(query, key, value, options))
            }
        };
        let mut results = vec![out.clone()];
        if self.shape.backward {
            let gradients = out.sum().backward();
            let inputs = self.tensors.iter();
            results.extend(inputs.filter_map(|tensor| tensor.grad(&gradients)));
        }
        results
    }
}

/// Waits for all that the device was given.
///
/// # Errors
/// What the device fails with.
pub fn wait(device: &Device) -> Result<()> {
    device.sync().map_err(|error| anyhow!("{error:?}"))
}
