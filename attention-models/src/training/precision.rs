//! Computing in a smaller type than that of the parameters (Micikevicius et al. 2018,
//! <https://arxiv.org/abs/1710.03740>).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};

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
