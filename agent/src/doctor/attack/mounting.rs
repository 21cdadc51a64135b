//! Mounts: what is covered, uncovered; another root; the newer calls.

use std::{ffi::CStr, io};

use nix::{
    mount::{MntFlags, umount2},
    unistd::{chdir, chroot, pivot_root},
};

use super::{Attack, check, namespaces::own_mounts, succeed};
use crate::doctor::stage::places::ROOT;

pub const ATTACKS: &[Attack] = &[
    succeed("umount", "take away what covers the host's sockets", |_| {
        own_mounts();
        umount2("/run", MntFlags::MNT_DETACH).map_err(io::Error::from)
    }),
    succeed("open-tree", "a copy of a mount that nothing covers", |_| {
        own_mounts();
        open_tree(c"/").map(drop)
    }),
    succeed("move-mount", "a copy of the root over /mnt", |_| {
        own_mounts();
        let tree = open_tree(c"/")?;
        // SAFETY: reads terminated paths.
        check(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                tree,
                c"".as_ptr(),
                libc::AT_FDCWD,
                c"/mnt".as_ptr(),
                MOVE_MOUNT_F_EMPTY_PATH,
            )
        })
        .map(drop)
    }),
    succeed("mount-setattr", "a read-only mount made writable", |_| {
        own_mounts();
        // struct mount_attr: to set, to clear, propagation, user namespace. MOUNT_ATTR_NOSUID to clear.
        let attributes = [0_u64, 2, 0, 0];
        // SAFETY: reads a terminated path and 32 bytes.
        check(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                c"/run".as_ptr(),
                0,
                attributes.as_ptr(),
                size_of_val(&attributes),
            )
        })
        .map(drop)
    }),
    succeed("chroot", "another root directory", |_| {
        chroot(ROOT).map_err(io::Error::from)
    }),
    succeed("pivot-root", "another root mount", |_| {
        own_mounts();
        chdir(ROOT)?;
        pivot_root(".", ".").map_err(io::Error::from)
    }),
];

/// Of linux/mount.h.
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
const OPEN_TREE_CLONE: u32 = 1;

fn open_tree(path: &CStr) -> io::Result<i64> {
    // SAFETY: reads a terminated path.
    check(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE,
        )
    })
}
