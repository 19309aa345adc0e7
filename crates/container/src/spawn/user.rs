//! Whom a container runs as: names of the image turned into numbers.
//!
//! The files are the image's, so nothing in them is trusted: they are small regular files or they are refused, and a
//! line that is not well formed is skipped.

use podrun_plan::model::SecurityPlan;
use podrun_sandbox::protocol::Identity;

/// Longest `/etc/passwd` or `/etc/group` that is read.
pub(crate) const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Highest id that container runtimes accept: the kernel's ids are 32 bits wide, and what is above wraps in programs
/// that keep them in an int (CVE-2024-40635).
const MAX_ID: u32 = i32::MAX.cast_unsigned();

/// A user, and what comes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) identity: Identity,
    pub(crate) home: Option<String>,
}

/// A line of `/etc/passwd`.
struct Passwd<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// Finds user, primary group and supplementary groups.
///
/// The plan's numbers win over the image's user. The primary group is, in this order: the plan's, the one that the
/// image's user names, the user's own in `/etc/passwd`, 0. A number is a number, also where a user has it as a name.
pub(crate) fn resolve(
    security: &SecurityPlan,
    image_user: &str,
    passwd: &[u8],
    group: &[u8],
) -> Result<User, String> {
    let (user, group_of_image) = match security.run_as_user {
        Some(_) => ("", None),
        None => split(image_user)?,
    };
    let (uid, entry) = match (security.run_as_user, parse_id(user)?) {
        (Some(uid), _) | (None, Some(uid)) => (uid, passwd_entries(passwd).find(|entry| entry.uid == uid)),
        (None, None) if user.is_empty() => (0, passwd_entries(passwd).find(|entry| entry.uid == 0)),
        (None, None) => {
            let entry = passwd_entries(passwd)
                .find(|entry| entry.name == user.as_bytes())
                .ok_or_else(|| format!("unable to find user {user}: no matching entries in passwd file"))?;
            (entry.uid, Some(entry))
        }
    };
    if uid > MAX_ID {
        return Err(format!("user {uid} is not in the range 0-{MAX_ID}"));
    }
    if security.run_as_non_root && uid == 0 {
        return Err("container has runAsNonRoot and image will run as root".to_owned());
    }
    let gid = match (security.run_as_group, group_of_image) {
        (Some(gid), _) => gid,
        (None, Some(name)) => find_group(name, group)?,
        (None, None) => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    if gid > MAX_ID {
        return Err(format!("group {gid} is not in the range 0-{MAX_ID}"));
    }
    // The primary group is among the supplementary ones too: a program that changes its group must not lose a group
    // that denies it something (CVE-2022-2995).
    let mut groups = vec![gid];
    groups.extend(&security.supplemental_groups);
    if security.merge_image_groups
        && let Some(entry) = &entry
    {
        let member = |members: &[u8]| members.split(|byte| *byte == b',').any(|name| name == entry.name);
        groups.extend(group_entries(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid));
    }
    let mut seen = Vec::with_capacity(groups.len());
    for gid in groups {
        if !seen.contains(&gid) {
            seen.push(gid);
        }
    }
    let home = entry
        .and_then(|entry| std::str::from_utf8(entry.home).ok())
        .filter(|home| home.starts_with('/'))
        .map(str::to_owned);
    Ok(User { identity: Identity { uid, gid, groups: seen }, home })
}

/// Splits `user` or `user:group`.
fn split(image_user: &str) -> Result<(&str, Option<&str>), String> {
    match image_user.split_once(':') {
        None => Ok((image_user, None)),
        Some((user, group)) if !user.is_empty() && !group.is_empty() && !group.contains(':') => {
            Ok((user, Some(group)))
        }
        Some(_) => Err(format!("invalid USER value {image_user:?}")),
    }
}

/// Reads a number of digits alone; none if it is a name.
fn parse_id(text: &str) -> Result<Option<u32>, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(format!("{text} is not in the range 0-{MAX_ID}")),
    }
}

fn find_group(name: &str, group: &[u8]) -> Result<u32, String> {
    if let Some(gid) = parse_id(name)? {
        return Ok(gid);
    }
    group_entries(group)
        .find(|(entry, _, _)| *entry == name.as_bytes())
        .map(|(_, gid, _)| gid)
        .ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn passwd_entries(file: &[u8]) -> impl Iterator<Item = Passwd<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        Some(Passwd { name, uid, gid, home })
    })
}

/// Yields name, id and members.
fn group_entries(file: &[u8]) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # comment\n\
        broken\n\
        neg:x:-1:0::/:\n\
        plus:x:+5:0::/:\n\
        1000:x:0:0::/evil:/bin/sh\n\
        app:x:1000:1001:App:/home/app:/bin/sh\r\n\
        high:x:4294967295:0::/:\n\
        short:x:7:8\n\
        last:x:12:13::relative:/bin/sh";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:app,other\naudio:x:63:other,app\nnone:x:64:\nbad:x:x:app\n";

    fn plan() -> SecurityPlan {
        SecurityPlan {
            run_as_user: None,
            run_as_group: None,
            run_as_non_root: false,
            supplemental_groups: Vec::new(),
            merge_image_groups: true,
            capabilities: 0,
            no_new_privs: false,
            seccomp: false,
            privileged: false,
            read_only_rootfs: false,
            masked_paths: Vec::new(),
            read_only_paths: Vec::new(),
            rlimits: Vec::new(),
        }
    }

    #[test]
    fn users_of_the_image() {
        type Found<'a> = Result<(u32, u32, &'a [u32]), &'a str>;
        let table: [(&str, Found<'_>); 19] = [
            ("", Ok((0, 0, &[0]))),
            ("root", Ok((0, 0, &[0]))),
            ("app", Ok((1000, 1001, &[1001, 50, 63]))),
            ("1000", Ok((1000, 1001, &[1001, 50, 63]))),
            ("app:staff", Ok((1000, 50, &[50, 63]))),
            ("app:77", Ok((1000, 77, &[77, 50, 63]))),
            ("1234", Ok((1234, 0, &[0]))),
            ("1234:staff", Ok((1234, 50, &[50]))),
            ("00", Ok((0, 0, &[0]))),
            ("short", Ok((7, 8, &[8]))),
            ("2147483647", Ok((2_147_483_647, 0, &[0]))),
            ("2147483648", Err("2147483648 is not in the range 0-2147483647")),
            ("4294967296", Err("4294967296 is not in the range 0-2147483647")),
            ("high", Err("user 4294967295 is not in the range 0-2147483647")),
            ("nobody", Err("unable to find user nobody: no matching entries in passwd file")),
            ("-1", Err("unable to find user -1: no matching entries in passwd file")),
            ("app:nogroup", Err("unable to find group nogroup: no matching entries in group file")),
            ("1:", Err("invalid USER value \"1:\"")),
            (":1", Err("invalid USER value \":1\"")),
        ];
        for (image_user, expected) in table {
            let user = resolve(&plan(), image_user, PASSWD, GROUP).map(|user| user.identity);
            let expected = expected
                .map(|(uid, gid, groups)| Identity { uid, gid, groups: groups.to_vec() })
                .map_err(str::to_owned);
            assert_eq!(user, expected, "{image_user:?}");
        }
        for hostile in ["0x0", " 0", "+0", "0 ", "root:0:0", "root\n"] {
            assert!(resolve(&plan(), hostile, PASSWD, GROUP).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn the_plan_wins_over_the_image() {
        let with = |user, group| SecurityPlan { run_as_user: user, run_as_group: group, ..plan() };
        let ids = |security: &SecurityPlan, image_user| {
            let identity = resolve(security, image_user, PASSWD, GROUP).expect("found").identity;
            (identity.uid, identity.gid)
        };
        assert_eq!(ids(&with(Some(1000), None), "nobody:nogroup"), (1000, 1001));
        assert_eq!(ids(&with(Some(55), None), "app:staff"), (55, 0));
        assert_eq!(ids(&with(Some(55), Some(66)), "app"), (55, 66));
        assert_eq!(ids(&with(None, Some(66)), "app"), (1000, 66));
        let root = SecurityPlan { run_as_non_root: true, ..plan() };
        assert!(resolve(&root, "root", PASSWD, GROUP).is_err());
    }

    #[test]
    fn declared_groups_come_first_and_strict_adds_none_of_the_image() {
        let security = SecurityPlan { supplemental_groups: vec![2000, 63, 2000], ..plan() };
        let groups = |security| resolve(&security, "app", PASSWD, GROUP).expect("found").identity.groups;
        assert_eq!(groups(security.clone()), [1001, 2000, 63, 50]);
        assert_eq!(groups(SecurityPlan { merge_image_groups: false, ..security }), [1001, 2000, 63]);
    }

    #[test]
    fn a_home_is_an_absolute_path() {
        let home = |user| resolve(&plan(), user, PASSWD, GROUP).expect("found").home;
        assert_eq!(home("app").as_deref(), Some("/home/app"));
        assert_eq!(home("last"), None);
        assert_eq!(home("4711"), None);
    }

    proptest! {
        #[test]
        fn hostile_files_never_make_another_user_of_a_number(
            passwd in proptest::collection::vec(any::<u8>(), 0..400),
            group in "[a-z0-9:,\n]{0,200}", uid in 0..=MAX_ID,
        ) {
            let user = resolve(&plan(), &uid.to_string(), &passwd, group.as_bytes());
            prop_assert!(user.is_err() || user.expect("checked").identity.uid == uid);
        }
    }
}
