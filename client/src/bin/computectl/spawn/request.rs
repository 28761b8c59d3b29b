//! The request that the command line asks for, files read.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use computedriver_client::v1;
use uuid::Uuid;

use super::image::{image, last_part, location};
use super::vif::vifs;
use super::{FlavorArgs, GuestArgs, ImageArgs, SpawnArgs, TellArgs, WaitArgs};
use crate::exit::Failure;
use crate::json;

/// What a small test guest is happy with.
const VCPUS: u32 = 1;
const MEMORY_MIB: u64 = 512;

impl SpawnArgs {
    /// The request: that of `--file`, if any, with the other options put over it.
    pub(crate) fn request(mut self) -> Result<v1::SpawnRequest, Failure> {
        let mut request = self.base()?;
        if let Some(id) = self.id.take() {
            request.instance_id = id;
        }
        if request.instance_id.is_empty() {
            request.instance_id = Uuid::new_v4().to_string();
        }
        if let Some(id) = self.request_id.take() {
            request.request_id = id;
        }
        request.validate_only |= self.validate_only;
        self.put_root(&mut request)?;
        self.flavor.put_over(request.flavor.get_or_insert_default());
        let bridges = std::mem::take(&mut self.bridge);
        let vifs = vifs(&request.instance_id, bridges, self.user_net);
        request.vifs.extend(vifs);
        for said in &self.volume {
            request.block_devices.push(self.login.device(said)?);
        }
        self.login.end()?;
        self.guest.put_over(&mut request);
        let words = self.told.read()?;
        request.metadata.extend(words.metadata);
        request.ssh_public_keys.extend(words.public_keys);
        request.injected_files.extend(words.injected_files);
        request.user_data = words.user_data.unwrap_or(request.user_data);
        request.admin_password = words.admin_password.unwrap_or(request.admin_password);
        request.wait_for = self.wait.read()?.or(request.wait_for);
        Ok(request)
    }

    /// What names this one instance or request, if it was said.
    pub(crate) fn names(&self) -> Option<&'static str> {
        let said = [
            ("--id", self.id.is_some()),
            ("--request-id", self.request_id.is_some()),
            ("--validate-only", self.validate_only),
        ];
        said.into_iter().find_map(|(name, is)| is.then_some(name))
    }

    fn base(&self) -> Result<v1::SpawnRequest, Failure> {
        let Some(file) = &self.file else {
            return Ok(v1::SpawnRequest::default());
        };
        let text = String::from_utf8(contents(file)?)
            .map_err(|e| Failure::Usage(format!("{}: {e}", file.display())))?;
        json::read("SpawnRequest", &text)
            .map_err(|e| Failure::Usage(format!("{}: {e}", file.display())))
    }

    /// The volume that it boots from, which this is not about.
    pub(crate) fn take_boot(&mut self) -> Result<Option<v1::BlockDevice>, Failure> {
        std::mem::take(&mut self.boot).device(&mut self.login)
    }

    /// What it boots from: an image, a volume, or what the file says.
    fn put_root(&mut self, request: &mut v1::SpawnRequest) -> Result<(), Failure> {
        let usage = |words: &str| Err(Failure::Usage(words.to_owned()));
        match (self.image.take(), self.boot.device(&mut self.login)?) {
            (Some(_), Some(_)) => usage("--image and --boot-volume exclude each other"),
            (Some(at), None) => {
                request.image = Some(self.about_image.take(at)?);
                Ok(())
            }
            (None, None) if self.about_image.is_said() => {
                usage("--kernel, --image-id and --sha256 need --image")
            }
            (None, None) if self.file.is_none() => usage("--image is required"),
            (None, None) => Ok(()),
            (None, Some(device)) => {
                let of_file = request.image.take().and_then(|image| image.properties);
                let kernel = self.about_image.take_kernel()?;
                if self.about_image.is_said() {
                    return usage("--image-id and --sha256 need --image");
                }
                request.image = (kernel.is_some() || of_file.is_some()).then(|| v1::Image {
                    properties: of_file,
                    ..kernel.unwrap_or_default()
                });
                let devices = &mut request.block_devices;
                devices.retain(|other| other.boot_index != Some(0));
                devices.push(device);
                Ok(())
            }
        }
    }
}

impl ImageArgs {
    /// The image at a location.
    pub(crate) fn take(&mut self, at: String) -> Result<v1::Image, Failure> {
        let id = self.image_id.take();
        let image = image(at, self.image_format, id, self.sha256.take())?;
        let direct = self.take_kernel()?.unwrap_or_default();
        Ok(v1::Image {
            kernel: direct.kernel,
            ramdisk: direct.ramdisk,
            kernel_command_line: direct.kernel_command_line,
            ..image
        })
    }

    /// An image of which only the kernel is said, if one is.
    fn take_kernel(&mut self) -> Result<Option<v1::Image>, Failure> {
        let Some(at) = self.kernel.take() else {
            return Ok(None);
        };
        Ok(Some(v1::Image {
            kernel: Some(kernel(at)?),
            ramdisk: self.ramdisk.take().map(kernel).transpose()?,
            kernel_command_line: self.cmdline.take().unwrap_or_default(),
            ..Default::default()
        }))
    }

    /// Whether something is left that is said of an image.
    fn is_said(&self) -> bool {
        self.kernel.is_some() || self.image_id.is_some() || self.sha256.is_some()
    }
}

impl WaitArgs {
    /// What is waited for, if anything.
    pub(crate) fn read(self) -> Result<Option<v1::WaitFor>, Failure> {
        let timeout = self.wait_timeout.map(prost_types::Duration::try_from);
        let timeout = timeout.transpose();
        let timeout = timeout.map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(self.wait_for.map(|condition| v1::WaitFor {
            condition: Some(condition),
            timeout,
        }))
    }
}

fn kernel(at: String) -> Result<v1::KernelImage, Failure> {
    let location = location(at)?;
    Ok(v1::KernelImage {
        image_id: last_part(&location),
        location,
        ..Default::default()
    })
}

impl FlavorArgs {
    fn put_over(&mut self, flavor: &mut v1::Flavor) {
        if let Some(vcpus) = self.vcpus {
            flavor.vcpus = vcpus;
        } else if flavor.vcpus == 0 {
            flavor.vcpus = VCPUS;
        }
        if let Some(memory) = self.memory_mib {
            flavor.memory_mib = memory;
        } else if flavor.memory_mib == 0 {
            flavor.memory_mib = MEMORY_MIB;
        }
        flavor.max_vcpus = self.max_vcpus.unwrap_or(flavor.max_vcpus);
        for (from, to) in [
            (self.max_memory_mib, &mut flavor.max_memory_mib),
            (self.root_gib, &mut flavor.root_gib),
            (self.ephemeral_gib, &mut flavor.ephemeral_gib),
            (self.swap_mib, &mut flavor.swap_mib),
        ] {
            *to = from.unwrap_or(*to);
        }
        flavor.extra_specs.extend(self.extra_spec.drain(..));
    }
}

impl GuestArgs {
    fn put_over(&mut self, request: &mut v1::SpawnRequest) {
        if let Some(hostname) = self.hostname.take() {
            request.hostname = hostname;
        }
        if let Some(name) = self.name.take() {
            request.display_name = name;
        }
        if self.no_config_drive {
            request.config_drive = Some(false);
        }
    }
}

/// What a guest is told, files read.
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) metadata: Vec<(String, String)>,
    pub(crate) public_keys: Vec<String>,
    pub(crate) user_data: Option<Vec<u8>>,
    pub(crate) injected_files: Vec<v1::InjectedFile>,
    pub(crate) admin_password: Option<String>,
}

impl TellArgs {
    /// Reads the files.
    pub(crate) fn read(self) -> Result<Words, Failure> {
        let mut words = Words {
            metadata: self.meta,
            ..Words::default()
        };
        for file in &self.ssh_key {
            words.public_keys.extend(keys(&contents(file)?));
        }
        if let Some(file) = &self.user_data {
            words.user_data = Some(contents(file)?);
        }
        for (path, file) in self.inject {
            let contents = contents(Path::new(&file))?;
            words
                .injected_files
                .push(v1::InjectedFile { path, contents });
        }
        if let Some(file) = &self.admin_password_file {
            let password = first_line(&contents(file)?);
            let missing = || Failure::Usage(format!("{} has no password", file.display()));
            words.admin_password = Some(password.ok_or_else(missing)?);
        }
        Ok(words)
    }
}

/// The bytes of a file; of stdin for `-`.
fn contents(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    bytes.map_err(|e| Failure::Usage(format!("{} cannot be read: {e}", file.display())))
}

fn first_line(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().next()?;
    (!line.is_empty()).then(|| line.to_owned())
}

fn keys(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    keys.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
