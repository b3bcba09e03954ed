//! Computing in a smaller type than that of the parameters (Micikevicius et al. 2018,
//! <https://arxiv.org/abs/1710.03740>).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};

/// A copy of a model in another type, whose gradients belong to the same parameters.
pub(super) fn copy_in<M: Module>(model: &M, dtype: FloatDType) -> M {
    struct Copy(FloatDType);

    impl ModuleMapper for Copy {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let learns = tensor.is_require_grad();
                // What casts is no operation of this step: the copy is what it differentiates by.
                Tensor::from_inner(tensor.inner().cast(self.0)).set_require_grad(learns)
            })
        }
    }

    model.clone().map(&mut Copy(dtype))
}

/// The gradients of a model's parameters in f32.
pub(super) fn widened<M: Module>(gradients: GradientsParams, model: &M) -> GradientsParams {
    struct Widen {
        from: GradientsParams,
        to: GradientsParams,
    }

    impl ModuleVisitor for Widen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                self.to.register(param.id, gradient.cast(DType::F32));
            }
        }
    }

    let mut widen = Widen {
        from: gradients,
        to: GradientsParams::new(),
    };
    model.visit(&mut widen);
    widen.to
}
