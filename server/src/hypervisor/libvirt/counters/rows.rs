//! Values that libvirt numbers: `net.0.rx.bytes`, `block.1.rd.reqs`.

/// The number and the rest of the name of a value of `kind`: `net.0.rx.bytes` → `(0, "rx.bytes")`.
pub(super) fn indexed<'a>(name: &'a str, kind: &str) -> Option<(u32, &'a str)> {
    let rest = name.strip_prefix(kind)?.strip_prefix('.')?;
    let (index, rest) = rest.split_once('.')?;
    Some((index.parse().ok()?, rest))
}

/// What has been read so far, by number.
#[derive(Debug)]
pub(super) struct Rows<T>(Vec<(u32, T)>);

impl<T: Default> Rows<T> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// The row of that number. libvirt tells one after the other, so it is nearly always the last.
    pub(super) fn at(&mut self, index: u32) -> &mut T {
        let place = self.0.iter().rposition(|(known, _)| *known == index);
        let place = place.unwrap_or_else(|| {
            self.0.push((index, T::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// All of them, in libvirt's order.
    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_value_is_taken_apart() {
        assert_eq!(indexed("net.0.rx.bytes", "net"), Some((0, "rx.bytes")));
        assert_eq!(indexed("block.12.name", "block"), Some((12, "name")));
        for other in [
            "net.count",
            "net.x.name",
            "nets.0.name",
            "block.0.name",
            "net.-1.name",
            "net",
        ] {
            assert_eq!(indexed(other, "net"), None, "{other}");
        }
    }

    #[test]
    fn rows_are_kept_apart_in_whatever_order_they_come() {
        let mut rows = Rows::<Vec<u32>>::new();
        for (index, value) in [(1, 10), (0, 20), (1, 11), (u32::MAX, 30)] {
            rows.at(index).push(value);
        }
        let all: Vec<_> = rows.into_values().collect();
        assert_eq!(all, [vec![10, 11], vec![20], vec![30]]);
    }
}
