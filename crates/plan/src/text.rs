//! How parts of the plan are written as text that a reader takes in at a glance.

/// Ordered pairs as a map.
pub(crate) mod pairs {
    use std::fmt;

    use serde::de::{MapAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
        from.deserialize_map(Pairs)
    }

    struct Pairs;

    // A map type would forget the order, and the order is that of the writes.
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
}

/// A set of capabilities as names.
pub(crate) mod capabilities {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::capabilities::{bit_of, name_of};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes every field by reference")]
    pub(crate) fn serialize<S: Serializer>(set: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq((0..64).filter(|bit| set & (1 << bit) != 0).map(name_of))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Vec::<String>::deserialize(from)?.iter().try_fold(0, |set, name| {
            let bit = bit_of(name).ok_or_else(|| D::Error::custom(format!("unknown capability {name:?}")))?;
            Ok(set | 1 << bit)
        })
    }
}

/// Resource limits as `NOFILE: 1024:524288`.
pub(crate) mod rlimits {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::pairs;

    const UNLIMITED: &str = "unlimited";

    pub(crate) fn serialize<S: Serializer>(limits: &[(String, u64, u64)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(
            limits.iter().map(|(name, soft, hard)| (name, format!("{}:{}", print(*soft), print(*hard)))),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(String, u64, u64)>, D::Error> {
        let limit = |(name, text): (String, String)| {
            let (soft, hard) = text.split_once(':')?;
            Some((name, parse(soft)?, parse(hard)?))
        };
        let wrong = || D::Error::custom("a resource limit is not of the form SOFT:HARD");
        pairs::deserialize(from)?.into_iter().map(|pair| limit(pair).ok_or_else(wrong)).collect()
    }

    // RLIM_INFINITY is the largest number of its type.
    fn print(limit: u64) -> String {
        if limit == u64::MAX { UNLIMITED.to_owned() } else { limit.to_string() }
    }

    fn parse(text: &str) -> Option<u64> {
        if text == UNLIMITED { Some(u64::MAX) } else { text.parse().ok() }
    }
}
