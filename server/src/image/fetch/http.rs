//! Files from a web server.

use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderName, IF_NONE_MATCH, LAST_MODIFIED},
};
use url::Url;

use super::{Fetched, Fetcher, Outcome, Report, Validator, fetching, sink::Sink, storage};
use crate::{
    image::error::ImageError,
    model::{Bytes, ImageFile},
    sys::web::unless_silent,
};

pub(super) async fn fetch(
    fetcher: &Fetcher,
    file: &ImageFile,
    url: Url,
    known: &[Validator],
    report: Report<'_>,
) -> Result<Outcome, ImageError> {
    let fault = |why: String| ImageError::Fetch {
        image: file.id.clone(),
        why,
    };
    let idle = fetcher.limits.idle;
    let mut request = fetcher.client.get(url).header(ACCEPT_ENCODING, "identity");
    let etags: Vec<_> = known
        .iter()
        .filter_map(|known| known.etag.as_deref())
        .collect();
    if !etags.is_empty() {
        request = request.header(IF_NONE_MATCH, etags.join(", "));
    }
    let response = unless_silent(idle, request.send(), 0)
        .await
        .map_err(fault)?;
    let response = match response.status() {
        StatusCode::OK => response,
        StatusCode::NOT_MODIFIED if !etags.is_empty() => {
            let unchanged = unchanged(&validator(&response), known);
            return unchanged.map(Outcome::Unchanged).ok_or_else(|| {
                fault("the server speaks of a state that was never seen".to_owned())
            });
        }
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => {
            let image = file.id.clone();
            return Err(ImageError::NotFound {
                image,
                why: format!("the server answered {status}"),
            });
        }
        status => return Err(fault(format!("the server answered {status}"))),
    };
    let validator = validator(&response);
    if known.contains(&validator) {
        return Ok(Outcome::Unchanged(validator));
    }
    // We asked for none; a hash of the packed bytes would be that of another file.
    match response.headers().get(CONTENT_ENCODING) {
        Some(coding) if coding != "identity" => {
            return Err(fault(format!("the server sent it packed as {coding:?}")));
        }
        _ => {}
    }
    fetcher.admit(file, response.content_length().unwrap_or(0))?;
    download(fetcher, file, response, report)
        .await
        .map(|(part, sha256, size)| {
            Outcome::Fetched(Fetched {
                part,
                sha256,
                size,
                validator,
            })
        })
}

/// Which of the `known` states a server means by "not modified".
fn unchanged(answered: &Validator, known: &[Validator]) -> Option<Validator> {
    let asked: Vec<_> = known.iter().filter(|known| known.etag.is_some()).collect();
    let same = asked.iter().find(|known| known.etag == answered.etag);
    // A server need not repeat its word when only one was asked about.
    let only = asked
        .first()
        .filter(|_| asked.len() == 1 && answered.etag.is_none());
    same.or(only).map(|&known| known.clone())
}

async fn download(
    fetcher: &Fetcher,
    file: &ImageFile,
    mut response: Response,
    report: Report<'_>,
) -> Result<(crate::sys::file::Part, [u8; 32], Bytes), ImageError> {
    let (total, limit) = (response.content_length(), fetcher.limits.max_size);
    let part = fetcher.part(file)?;
    let sink = Sink::into(part.file().try_clone().map_err(|e| storage(file, e))?);
    let mut done = 0;
    report(fetching(done, total));
    loop {
        let piece = unless_silent(fetcher.limits.idle, response.chunk(), done).await;
        let piece = piece.map_err(|why| ImageError::Fetch {
            image: file.id.clone(),
            why,
        })?;
        let Some(piece) = piece else { break };
        done += piece.len() as u64;
        if done > limit.0 {
            return Err(ImageError::TooLarge {
                image: file.id.clone(),
                size: Bytes(done),
                limit,
            });
        }
        if !sink.take(piece).await {
            break;
        }
        report(fetching(done, total));
    }
    let sha256 = sink.end().await.map_err(|e| storage(file, e))?;
    Ok((part, sha256, Bytes(done)))
}

fn validator(response: &Response) -> Validator {
    let header = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    Validator {
        size: response.content_length(),
        modified: header(LAST_MODIFIED),
        etag: header(ETAG),
    }
}
