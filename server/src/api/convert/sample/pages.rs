//! A batch of very many instances in several messages, because clients take none above 4 MiB unless told to.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

/// What the instances of one message may take; one that alone takes more still gets its message.
const LIMIT: usize = (1 << 20) - 1024;

/// Some of a batch's instances.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) first: bool,
    pub(super) more: bool,
}

/// The messages of a batch, in order; at least one.
pub(super) fn encode<T: Message, M: Message>(
    items: Vec<T>,
    message: impl Fn(Page<T>) -> M,
) -> Arc<[Bytes]> {
    let pages = split(items, LIMIT).into_iter();
    pages
        .map(|page| Bytes::from(message(page).encode_to_vec()))
        .collect()
}

fn split<T: Message>(items: Vec<T>, limit: usize) -> Vec<Page<T>> {
    let mut pages = Vec::new();
    let mut page = Vec::new();
    let mut size = 0;
    for item in items {
        // With its tag and its length.
        let more = item.encoded_len() + 6;
        if size + more > limit && !page.is_empty() {
            pages.push(std::mem::take(&mut page));
            size = 0;
        }
        size += more;
        page.push(item);
    }
    pages.push(page);
    let last = pages.len() - 1;
    let pages = pages.into_iter().enumerate();
    let page = |(at, items)| Page {
        items,
        first: at == 0,
        more: at < last,
    };
    pages.map(page).collect()
}

#[cfg(test)]
mod tests {
    use computedriver::v1;
    use proptest::prelude::*;

    use super::*;

    fn guest(bytes: usize) -> v1::InstanceStats {
        v1::InstanceStats {
            sample: Some(v1::SampleState {
                instance_id: "x".repeat(bytes),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn message(page: Page<v1::InstanceStats>) -> v1::StreamInstanceStatsResponse {
        v1::StreamInstanceStatsResponse {
            sequence: u64::MAX,
            instances: page.items,
            full: page.first,
            more: page.more,
            ..Default::default()
        }
    }

    #[test]
    fn ten_thousand_guests_fit_the_messages_that_every_client_takes() {
        let messages = encode(vec![guest(700); 10_000], message);
        assert!(messages.len() > 6);
        assert!(messages.iter().all(|message| message.len() <= 1 << 20));
    }

    #[test]
    fn of_nobody_there_is_one_message() {
        let messages = encode(Vec::new(), message);
        let only = v1::StreamInstanceStatsResponse::decode(messages[0].clone()).unwrap();
        assert!(messages.len() == 1 && only.full && !only.more);
    }

    proptest! {
        #[test]
        fn nobody_is_lost_and_only_the_last_has_no_more(sizes in prop::collection::vec(0_usize..90, 0..40)) {
            let guests: Vec<_> = sizes.into_iter().map(guest).collect();
            let pages = split(guests.clone(), 100);
            let last = pages.len() - 1;
            for (at, page) in pages.iter().enumerate() {
                prop_assert_eq!((page.first, page.more), (at == 0, at < last));
                prop_assert!(guests.is_empty() || !page.items.is_empty());
            }
            let all: Vec<_> = pages.into_iter().flat_map(|page| page.items).collect();
            prop_assert_eq!(all, guests);
        }
    }
}
