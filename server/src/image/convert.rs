//! Turning an accepted image into the format that the cache keeps. `qemu-img` does it, under limits.

use std::{path::Path, time::Duration};

use super::{
    error::{ImageError, why},
    fetch::ImageProgress,
    inspect::{Inspection, name},
};
use crate::{
    domain::Format,
    model::{Amount, DiskFormat, Phase},
    sys::command::{Command, CommandError, ResourceLimits},
};

/// Writes the disk in `from` to `to` as `format`.
pub(super) async fn convert(
    image: &str,
    (from, declared, found): (&Path, DiskFormat, &Inspection),
    (to, format): (&Path, DiskFormat),
    report: impl Fn(ImageProgress),
) -> Result<(), ImageError> {
    // Unpacking the slowest compression takes some 10 MiB a second of one processor; a minute for all the rest.
    let seconds = 60 + found.file_size / (10 << 20);
    let limits = ResourceLimits {
        cpu: Some(Duration::from_secs(seconds)),
        // Twice what Nova gives to reading a header: converting buffers clusters of up to 2 MiB.
        address_space: Some(2 << 30),
        // Never more than the disk, and the tables that say where it lies.
        file_size: Some(
            found
                .virtual_size
                .saturating_add(found.virtual_size / 1024 + (64 << 20)),
        ),
    };
    let show = |percent| {
        report(ImageProgress {
            phase: Phase::ConvertImage,
            amount: Amount::Percent(percent),
        });
    };
    show(0);
    let result = Command::new("qemu-img")
        .args([
            "convert",
            "-p",
            "-W",
            "-f",
            name(declared),
            "-O",
            name(format),
        ])
        .args([from, to])
        .limits(limits)
        .time_limit(Duration::from_secs(10 * seconds))
        .run_streaming(|printed| {
            percent(printed).into_iter().for_each(show);
        })
        .await;
    result.map_err(|e| failure(image, &e))
}

/// Longer than the slowest disk takes: a caller that has waited enough cancels.
const FLATTEN: Duration = Duration::from_secs(24 * 3600);

/// Writes a disk that nobody else has open, with all that it rests on, to a file that rests on nothing.
///
/// # Errors
/// `HostFull`, and whatever else the tool fails on.
///
/// # Cancel safety
/// Dropped, the tool is ended; what it has written stays.
pub async fn flatten(
    (from, source): (&Path, Format),
    (to, format): (&Path, Format),
    show: impl Fn(u32),
) -> Result<(), ImageError> {
    let disk = super::error::disk_name(from);
    let result = Command::new("qemu-img")
        .args(["convert", "-p", "-W"])
        .args(["-f", source.as_str(), "-O", format.as_str()])
        .args([from, to])
        .limits(ResourceLimits {
            address_space: Some(2 << 30),
            ..ResourceLimits::default()
        })
        .time_limit(FLATTEN)
        .run_streaming(|printed| {
            percent(printed).into_iter().for_each(&show);
        })
        .await;
    result.map_err(|e| match &e {
        CommandError::Failed { stderr, .. } if stderr.contains("No space left on device") => {
            ImageError::HostFull { what: disk.clone() }
        }
        _ => ImageError::tool(disk.clone(), &e),
    })
}

/// The last whole percentage in what `qemu-img -p` prints: `    (12.34/100%)`.
pub(super) fn percent(printed: &[u8]) -> Option<u32> {
    let printed = std::str::from_utf8(printed).ok()?;
    let (before, _) = printed.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    let (whole, _) = number.split_once('.')?;
    whole.parse().ok().filter(|&percent| percent <= 100)
}

/// An image that the tool fails on is the image's fault; a tool that is not there is ours.
fn failure(image: &str, e: &CommandError) -> ImageError {
    match e {
        CommandError::Start { .. } => ImageError::tool(format!("image {image}"), e),
        CommandError::Failed { stderr, .. } if stderr.contains("No space left on device") => {
            ImageError::HostFull {
                what: format!("image {image}"),
            }
        }
        _ => {
            // What it printed holds paths of this host.
            tracing::debug!(image, error = %crate::error::chain(e), "conversion failed");
            ImageError::Convert {
                image: image.to_owned(),
                why: why(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_from_whatever_piece_comes() {
        for (printed, read) in [
            ("    (0.00/100%)\r    (12.34/100%)\r", Some(12)),
            ("    (100.00/100%)\r", Some(100)),
            ("    (12.3", None),
            ("9/100%)\r", None),
            ("(999.00/100%)", None),
            ("", None),
        ] {
            assert_eq!(percent(printed.as_bytes()), read, "{printed:?}");
        }
    }
}
