//! Users and groups by name, from `/etc/passwd` and `/etc/group`.
//!
//! Directory services (LDAP, sssd) are not asked: that would load code into the daemon and may take seconds. An account
//! that is not in the files is given by its number.

use std::fs;

/// A group, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// As the configuration names it.
    pub(crate) name: String,
    /// Its number.
    pub(crate) gid: u32,
}

/// The user id of a name or of a number written out.
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    user.parse().ok().or_else(|| id_of(&fs::read_to_string("/etc/passwd").ok()?, user))
}

/// The group id of a name or of a number written out.
pub(crate) fn gid_of(group: &str) -> Option<u32> {
    group.parse().ok().or_else(|| id_of(&fs::read_to_string("/etc/group").ok()?, group))
}

/// The name of a user id; the number itself where the file has none.
pub(crate) fn user_name(uid: u32) -> String {
    let file = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&file, uid).unwrap_or_else(|| uid.to_string())
}

/// Both files have `name:password:id:…` on each line.
fn id_of(file: &str, name: &str) -> Option<u32> {
    let line = file.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn name_of(file: &str, id: u32) -> Option<String> {
    let has_id = |line: &&str| line.split(':').nth(2).and_then(|n| n.parse().ok()) == Some(id);
    let name = file.lines().find(has_id)?.split(':').next()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "root:x:0:0:root:/root:/bin/bash\n# note\n\nwww-data:x:33:33::/var/www:/bin/false\nbroken:x\n";

    #[test]
    fn finds_by_name_and_by_number() {
        assert_eq!(id_of(FILE, "www-data"), Some(33));
        assert_eq!(id_of(FILE, "www"), None);
        assert_eq!(id_of(FILE, "broken"), None);
        assert_eq!(name_of(FILE, 33).as_deref(), Some("www-data"));
        assert_eq!(name_of(FILE, 34), None);
        assert_eq!(uid_of("4711"), Some(4711));
        assert_eq!(uid_of("root"), Some(0));
        assert_eq!(user_name(0), "root");
    }
}
