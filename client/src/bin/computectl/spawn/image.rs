//! Images as they are named on the command line.

use clap::ValueEnum;
use computedriver_client::v1::{DiskFormat, Image};

use crate::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageFormat {
    Raw,
    Qcow2,
    Vmdk,
    Vhd,
    Vhdx,
    Vdi,
    Iso,
}

impl From<ImageFormat> for DiskFormat {
    fn from(format: ImageFormat) -> Self {
        match format {
            ImageFormat::Raw => Self::Raw,
            ImageFormat::Qcow2 => Self::Qcow2,
            ImageFormat::Vmdk => Self::Vmdk,
            ImageFormat::Vhd => Self::Vhd,
            ImageFormat::Vhdx => Self::Vhdx,
            ImageFormat::Vdi => Self::Vdi,
            ImageFormat::Iso => Self::Iso,
        }
    }
}

/// The image of a location; a path is taken as one on the server's host.
pub(crate) fn image(
    location: String,
    format: ImageFormat,
    id: Option<String>,
    sha256: Option<String>,
) -> Result<Image, Failure> {
    let location = self::location(location)?;
    Ok(Image {
        image_id: id.unwrap_or_else(|| last_part(&location)),
        sha256: sha256.unwrap_or_default().to_ascii_lowercase(),
        format: DiskFormat::from(format).into(),
        location,
        ..Default::default()
    })
}

/// A URL as it is, a path as an absolute `file:` URL with what a URL may not hold escaped.
pub(crate) fn location(text: String) -> Result<String, Failure> {
    if text.contains("://") {
        return Ok(text);
    }
    let path = std::path::absolute(&text)
        .map_err(|e| Failure::Usage(format!("`{text}` is no path: {e}")))?;
    let mut url = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' | b'+' => {
                url.push(char::from(*byte));
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(url)
}

/// What a person would call it.
pub(crate) fn last_part(location: &str) -> String {
    let path = location.split(['?', '#']).next().unwrap_or(location);
    let last = path.trim_end_matches('/').rsplit('/').next();
    last.unwrap_or(location).chars().take(255).collect()
}

#[cfg(test)]
mod tests {
    use super::{last_part, location};

    #[test]
    fn paths_become_urls_and_urls_stay() {
        assert_eq!(
            location("/a b.img".into()).expect("a path"),
            "file:///a%20b.img"
        );
        let url = "https://host/x.img?y=1";
        assert_eq!(location(url.into()).expect("a url"), url);
        assert!(
            location("x.img".into())
                .expect("a path")
                .starts_with("file:///")
        );
    }

    #[test]
    fn an_image_is_called_by_its_file() {
        assert_eq!(last_part("https://host/dir/x.img?y=1"), "x.img");
        assert_eq!(last_part("file:///srv/cirros.qcow2"), "cirros.qcow2");
    }
}
