//! Pages of a listing: at most so many, and where the next one begins.

use crate::error::{Error, Kind};

/// A page when the caller does not say.
const DEFAULT: u32 = 100;
/// The largest page: some 200 kB of instances.
const MAX: u32 = 1000;

/// How many entries a page has.
pub(super) fn size(asked: u32) -> usize {
    let size = if asked == 0 { DEFAULT } else { asked.min(MAX) };
    usize::try_from(size).unwrap_or(1000)
}

/// The token of the page after `last` in the listing `of`. Opaque: hexadecimal, so that nobody builds one by hand.
pub(super) fn token(of: &str, last: &str) -> String {
    hex::encode(format!("{of}\n{last}"))
}

/// Where the page of `token` begins: after what.
///
/// # Errors
/// When the token is not one of this listing.
pub(super) fn after(of: &str, token: &str) -> Result<Option<String>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let text = hex::decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let last = text
        .as_deref()
        .and_then(|text| text.split_once('\n'))
        .filter(|(listing, _)| *listing == of);
    let wrong = || {
        let message = "page_token is not one that this listing, with the same arguments, gave out";
        Error::new(Kind::Invalid, "PAGE_TOKEN_INVALID", message)
    };
    last.map(|(_, last)| Some(last.to_owned()))
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_on_in_its_own_listing_only() {
        let token = token("instances", "abc");
        assert_eq!(after("instances", &token).unwrap().as_deref(), Some("abc"));
        assert_eq!(after("instances", "").unwrap(), None);
        assert_eq!(
            after("operations", &token).unwrap_err().reason(),
            "PAGE_TOKEN_INVALID"
        );
        assert_eq!(
            after("instances", "zz").unwrap_err().reason(),
            "PAGE_TOKEN_INVALID"
        );
    }
}
