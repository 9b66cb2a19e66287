//! Sizes as a user writes them.

/// Bytes in a size as GNU programs write it: `K` and `KiB` are 1024, `KB` is 1000. Case does not matter.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_gnu_programs() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("4096", Some(4096)),
            ("80KiB", Some(81_920)),
            ("80K", Some(81_920)),
            ("2M", Some(2 << 20)),
            ("1kB", Some(1000)),
            ("1GiB", Some(1 << 30)),
            ("80kib", Some(81_920)),
            ("1mb", Some(1_000_000)),
            ("", None),
            ("K", None),
            ("-1", None),
            ("1.5K", None),
            ("1 K", None),
            ("1KiBB", None),
            ("99999999999999999999", None),
            ("99999999999999999G", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
