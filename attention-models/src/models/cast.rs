use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{FloatDType, Tensor};

/// A module whose weights have another type, in which it then computes. Whatever the type of the
/// images, times and texts that a reference model is given, it computes in that of its weights. What
/// learned before learns on, as a parameter of its own.
///
/// ```
/// use attention_models::models::{cast, vit::VisionTransformerConfig};
/// use burn::tensor::{DType, Device, FloatDType, Tensor};
///
/// let device = Device::flex();
/// let model = VisionTransformerConfig::new(28, 7, 16, 1, 2, 32).init(&device);
/// let model = cast(model, FloatDType::F16);
/// let output = model.forward(Tensor::zeros([1, 3, 28, 28], &device));
/// assert_eq!(output.last_hidden_state.dtype(), DType::F16);
/// ```
pub fn cast<M: Module>(module: M, dtype: FloatDType) -> M {
    struct Cast(FloatDType);

    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let (learns, differentiates) = (tensor.is_require_grad(), tensor.is_autodiff());
                // A leaf, which the result of a recorded operation is not.
                let tensor = tensor.without_autodiff().cast(self.0);
                match differentiates {
                    true => tensor.autodiff().set_require_grad(learns),
                    false => tensor,
                }
            })
        }
    }

    module.map(&mut Cast(dtype))
}
