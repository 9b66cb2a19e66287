//! Sizes as messages have them.

use bytesize::ByteSize;

/// These sizes, in bytes, for people: rounded alike, but not so far that different ones look the same.
///
/// ```
/// use ipc_core::sizes;
///
/// assert_eq!(sizes([2 << 30, 3 << 30]), ["2.0 GiB", "3.0 GiB"]);
/// assert_eq!(sizes([(4 << 30) + (9 << 20), 4 << 30]), ["4.01 GiB", "4.00 GiB"]);
/// assert_eq!(sizes([(4 << 30) + 1, 4 << 30]), ["4294967297 bytes", "4294967296 bytes"]);
/// ```
#[must_use]
pub fn sizes<const N: usize>(bytes: [u64; N]) -> [String; N] {
    // More digits would be no easier to read than the bytes.
    let rounded = (1..=3).map(|digits| bytes.map(|size| format!("{:.digits$}", ByteSize(size))));
    let differ = |texts: &[String; N]| {
        let mut pairs = bytes.iter().zip(texts);
        // Rounded up, the last of one unit looks like the first of the next.
        pairs.all(|(size, text)| {
            bytes.iter().zip(texts).all(|(s, t)| (s == size) == (t == text))
                && !text.starts_with("1024.")
        })
    };
    let exact = || bytes.map(|size| format!("{size} bytes"));
    rounded.into_iter().find(differ).unwrap_or_else(exact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_that_are_alike_are_told_alike() {
        assert_eq!(sizes([80 << 10, 80 << 10]), ["80.0 KiB", "80.0 KiB"]);
        assert_eq!(sizes([0, 1, 1023]), ["0 B", "1 B", "1023 B"]);
        assert_eq!(sizes([]), [""; 0]);
    }

    #[test]
    fn all_of_them_have_as_many_digits_as_two_need() {
        assert_eq!(
            sizes([2_150_000_000, 4_300_000_000, 4_295_000_000]),
            ["2.002 GiB", "4.005 GiB", "4.000 GiB"]
        );
        // Just below the next unit.
        assert_eq!(sizes([1 << 20, (1 << 20) - 1]), ["1.000 MiB", "1023.999 KiB"]);
        assert_eq!(sizes([1 << 30, (1 << 30) - 1]), ["1073741824 bytes", "1073741823 bytes"]);
    }

    proptest! {
        #[test]
        fn different_sizes_never_look_the_same(one: u64, other: u64, less in 0_u64..10_000) {
            for [one, other] in [[one, other], [one, one.saturating_sub(less)]] {
                let [first, second] = sizes([one, other]);
                prop_assert_eq!(one == other, first == second);
            }
        }
    }
}
