//! Whether a real GPU's Vulkan driver is installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Kernel drivers of display adapters that compute nothing.
const VIRTUAL: [&str; 8] = [
    "virtio", "vgem", "vkms", "vmwgfx", "bochs", "hyperv", "qxl", "simple",
];
/// Vulkan drivers that come with every Mesa and need no hardware.
const SOFTWARE: [&str; 4] = ["lvp", "llvmpipe", "virtio", "gfxstream"];

/// A device node and a Vulkan driver that could drive it; `root` is `/`, or a test's folder.
pub fn has_real_driver(root: &Path) -> bool {
    let drivers = vulkan_drivers(root);
    let nvidia = |name: &String| name.contains("nvidia");
    if root.join("dev/nvidia0").exists() && drivers.iter().any(nvidia) {
        return true;
    }
    has_render_node(root) && drivers.iter().any(|name| !nvidia(name))
}

fn has_render_node(root: &Path) -> bool {
    entries(&root.join("dev/dri"))
        .iter()
        .filter_map(|path| path.file_name())
        .any(|node| {
            let kernel_driver =
                fs::read_link(root.join("sys/class/drm").join(node).join("device/driver"));
            let name = kernel_driver
                .ok()
                .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
            let is_hardware =
                |name: String| !VIRTUAL.iter().any(|virtual_one| name.contains(virtual_one));
            node.to_string_lossy().starts_with("renderD") && name.is_some_and(is_hardware)
        })
}

/// The names of the installed hardware drivers' manifests.
fn vulkan_drivers(root: &Path) -> Vec<String> {
    [
        "usr/share/vulkan/icd.d",
        "usr/local/share/vulkan/icd.d",
        "etc/vulkan/icd.d",
    ]
    .iter()
    .flat_map(|folder| entries(&root.join(folder)))
    .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
    .filter(|name| !SOFTWARE.iter().any(|software| name.contains(software)))
    .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|all| all.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn machine(files: &[&str], kernel_driver: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let device = root.path().join("sys/class/drm/renderD128/device");
        fs::create_dir_all(&device).unwrap();
        std::os::unix::fs::symlink(format!("/drivers/{kernel_driver}"), device.join("driver"))
            .unwrap();
        root
    }

    #[test]
    fn a_render_node_with_a_hardware_driver_is_a_gpu() {
        let root = machine(
            &[
                "dev/dri/renderD128",
                "usr/share/vulkan/icd.d/radeon_icd.json",
            ],
            "amdgpu",
        );
        assert!(has_real_driver(root.path()));
        let root = machine(
            &["dev/nvidia0", "etc/vulkan/icd.d/nvidia_icd.json"],
            "nvidia",
        );
        assert!(has_real_driver(root.path()));
    }

    #[test]
    fn a_virtual_display_or_a_software_driver_is_not_a_gpu() {
        let root = machine(
            &[
                "dev/dri/renderD128",
                "usr/share/vulkan/icd.d/radeon_icd.json",
            ],
            "virtio-pci",
        );
        assert!(!has_real_driver(root.path()));
        let root = machine(
            &["dev/dri/renderD128", "usr/share/vulkan/icd.d/lvp_icd.json"],
            "amdgpu",
        );
        assert!(!has_real_driver(root.path()));
        let root = machine(
            &["dev/nvidia0", "usr/share/vulkan/icd.d/intel_icd.json"],
            "none",
        );
        assert!(!has_real_driver(root.path()));
    }
}
