//! What devices can do, by their vendors' words.

/// A number, and where it is from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stated {
    /// In the unit of its field.
    pub value: f64,
    /// Who states it, or what it is derived from.
    pub source: &'static str,
}

const fn stated(value: f64, source: &'static str) -> Stated {
    Stated { value, source }
}

/// How many instructions a device can begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Issue {
    /// Instructions of planes a second.
    pub slots: Stated,
    /// Operations of one matrix instruction that the kernels use.
    pub flops_per_instruction: f64,
}

/// A device's peak rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceRoofs {
    /// The product.
    pub name: &'static str,
    /// What the compile matrix calls it.
    pub target: Option<&'static str>,
    /// Parts of which each runs cubes of its own: SMs, WGPs' CUs, cores.
    pub cores: u64,
    /// Operations a second of dense matrix instructions with sums in `f32`, for factors in `f32`, `f16` and `bf16`.
    /// Where there are none, products are vector instructions: those that round `f32` to fewer bits are used in sums that
    /// lose nothing, on NVIDIA's.
    pub matrix: [Option<Stated>; 3],
    /// Operations a second of vector instructions on `f32`, a fused one counted as two.
    pub vector: Stated,
    /// Exponentials a second, of devices with units for them.
    pub exponentials: Option<Stated>,
    /// Bytes a second.
    pub bandwidth: Stated,
    /// Where it is known.
    pub issue: Option<Issue>,
    /// The share of the bound's speed that kernels like these have been seen to reach.
    pub reached: Stated,
    /// Seconds of a launch.
    pub launch: Stated,
    /// What a reader must know besides.
    pub remark: &'static str,
}

/// Products of bf16 in place of one of f32, where the kernels take those.
pub(super) const F32_PRODUCTS: f64 = 6.0;
const F32_SOURCE: &str = "derived: six products of bf16 for one of f32";

const LAUNCH: Stated = stated(5e-6, "assumed: a launch from a queue that is never empty");

const H100: DeviceRoofs = DeviceRoofs {
    name: "H100 SXM",
    target: Some("sm_90a"),
    cores: 132,
    matrix: [
        Some(stated(989.4e12 / F32_PRODUCTS, F32_SOURCE)),
        Some(stated(
            989.4e12,
            "NVIDIA H100 Tensor Core GPU Architecture (whitepaper), dense",
        )),
        Some(stated(
            989.4e12,
            "NVIDIA H100 Tensor Core GPU Architecture (whitepaper), dense",
        )),
    ],
    vector: stated(
        66.9e12,
        "NVIDIA H100 Tensor Core GPU Architecture (whitepaper)",
    ),
    exponentials: Some(stated(
        3.87e12,
        "derived: 16 a clock of an SM (CUDA C++ Programming Guide, throughput of arithmetic instructions) x 132 x 1.83 GHz",
    )),
    bandwidth: stated(3.35e12, "NVIDIA H100 data sheet (SXM5, 80 GB HBM3)"),
    issue: Some(Issue {
        slots: stated(
            966e9,
            "derived: 4 schedulers x 132 SMs x 1.83 GHz, one instruction of a warp a clock each",
        ),
        flops_per_instruction: 4096.0,
    }),
    reached: stated(
        0.35,
        "FlashAttention-3 (Shah et al. 2024): what FlashAttention-2, which like ours uses mma.sync and no wgmma, reaches",
    ),
    launch: LAUNCH,
    remark: "One instruction of a warp multiplies 16 x 8 x 16. It reaches about 0.62 of the data sheet's rate, which only wgmma does (Luo et al. 2024).",
};

const A100: DeviceRoofs = DeviceRoofs {
    name: "A100 SXM",
    target: Some("sm_80"),
    cores: 108,
    matrix: [
        Some(stated(312e12 / F32_PRODUCTS, F32_SOURCE)),
        Some(stated(312e12, "NVIDIA A100 data sheet, dense")),
        Some(stated(312e12, "NVIDIA A100 data sheet, dense")),
    ],
    vector: stated(19.5e12, "NVIDIA A100 data sheet"),
    exponentials: Some(stated(
        2.44e12,
        "derived: 16 a clock of an SM (CUDA C++ Programming Guide, throughput of arithmetic instructions) x 108 x 1.41 GHz",
    )),
    bandwidth: stated(2.039e12, "NVIDIA A100 data sheet (SXM4, 80 GB HBM2e)"),
    issue: Some(Issue {
        slots: stated(
            609e9,
            "derived: 4 schedulers x 108 SMs x 1.41 GHz, one instruction of a warp a clock each",
        ),
        flops_per_instruction: 4096.0,
    }),
    reached: stated(0.6, "FlashAttention-2 (Dao 2023): 50 to 73 % on an A100"),
    launch: LAUNCH,
    remark: "One instruction of a warp multiplies 16 x 8 x 16.",
};

const MI300X: DeviceRoofs = DeviceRoofs {
    name: "MI300X",
    target: Some("gfx942"),
    cores: 304,
    matrix: [
        None,
        Some(stated(1307.4e12, "AMD Instinct MI300X data sheet, dense")),
        Some(stated(1307.4e12, "AMD Instinct MI300X data sheet, dense")),
    ],
    vector: stated(163.4e12, "AMD Instinct MI300X data sheet, packed f32"),
    exponentials: Some(stated(
        10.2e12,
        "derived: a quarter of 64 lanes a clock (AMD CDNA 3 ISA, transcendental instructions) x 304 CUs x 2.1 GHz",
    )),
    bandwidth: stated(5.3e12, "AMD Instinct MI300X data sheet"),
    issue: None,
    reached: stated(
        0.35,
        "assumed: attention of AMD's Composable Kernel is reported between 0.3 and 0.5",
    ),
    launch: LAUNCH,
    remark: "Kernels with matrix instructions need planes of 32 lanes today; here they have 64, so ours computes products on the vector units: 8 times as long as the numbers here for f16.",
};

const RX_7900_XTX: DeviceRoofs = DeviceRoofs {
    name: "RX 7900 XTX",
    target: Some("gfx1100"),
    cores: 96,
    matrix: [
        None,
        Some(stated(
            122.8e12,
            "AMD Radeon RX 7900 XTX product page; 512 a clock of a CU (RDNA 3 ISA, WMMA)",
        )),
        Some(stated(122.8e12, "as f16 (RDNA 3 ISA, WMMA)")),
    ],
    vector: stated(
        61.4e12,
        "AMD Radeon RX 7900 XTX product page; half of it without dual issue",
    ),
    exponentials: Some(stated(
        3.84e12,
        "derived: a quarter of 64 lanes a clock (RDNA 3 ISA, transcendental instructions) x 96 CUs x 2.5 GHz",
    )),
    bandwidth: stated(960e9, "AMD Radeon RX 7900 XTX product page"),
    issue: Some(Issue {
        slots: stated(
            480e9,
            "derived: one a clock of each of 2 SIMDs x 96 CUs x 2.5 GHz",
        ),
        flops_per_instruction: 8192.0,
    }),
    reached: stated(0.4, "assumed"),
    launch: LAUNCH,
    remark: "One instruction of a wave multiplies 16 x 16 x 16. The data sheet's rate is at 2.5 GHz.",
};

const M3_MAX: DeviceRoofs = DeviceRoofs {
    name: "M3 Max (40 cores)",
    target: None,
    cores: 40,
    // Its matrix instructions run on the vector units.
    matrix: [None; 3],
    vector: stated(
        14.1e12,
        "derived, Apple states none: 128 lanes a core x 40 x 2 x 1.38 GHz, as independent measurements have it",
    ),
    exponentials: Some(stated(
        1.77e12,
        "derived from independent measurements: a quarter of the vector lanes a clock",
    )),
    bandwidth: stated(
        400e9,
        "Apple MacBook Pro technical specifications (M3 Max, 40-core GPU)",
    ),
    issue: None,
    reached: stated(0.5, "assumed"),
    launch: LAUNCH,
    remark: "Products run on the vector units, whose rate in f16 is that in f32.",
};

/// Devices with the numbers of their vendors. Software Vulkan and any other device at hand are measured instead
/// (`attention roofline --device`).
pub const DEVICES: [DeviceRoofs; 5] = [H100, A100, MI300X, RX_7900_XTX, M3_MAX];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    #[test]
    fn every_number_of_every_device_has_a_source() {
        for device in &DEVICES {
            let mut numbers = vec![
                device.vector,
                device.bandwidth,
                device.reached,
                device.launch,
            ];
            numbers.extend(device.exponentials);
            numbers.extend(device.matrix.into_iter().flatten());
            numbers.extend(device.issue.map(|issue| issue.slots));
            for number in numbers {
                assert!(
                    number.value > 0.0 && !number.source.is_empty(),
                    "{}",
                    device.name
                );
            }
            assert!(device.reached.value < 1.0);
        }
    }

    #[test]
    fn matrix_instructions_are_faster_than_vector_instructions() {
        for device in &DEVICES {
            for rate in device.matrix.into_iter().flatten() {
                assert!(rate.value > device.vector.value, "{}", device.name);
            }
            let nvidia = device
                .target
                .is_some_and(|target| target.starts_with("sm_"));
            assert_eq!(
                device.matrix(DType::F32).is_some(),
                nvidia,
                "{}",
                device.name
            );
        }
    }
}
