//! How amounts are written for people.

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// A number of bytes, in the largest unit that it fills.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1, "B")];
    let (unit, name) = units.into_iter().find(|&(unit, _)| bytes >= unit).unwrap_or((1, "B"));
    let decimals = usize::from(!bytes.is_multiple_of(unit));
    format!("{:.decimals$} {name}", bytes as f64 / unit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_decimal_only_if_it_is_not_whole() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (4 * KIB, "4 KiB"),
            (256 * MIB, "256 MiB"),
            (3 * GIB / 2, "1.5 GiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
