//! What the kernel tells about BPF objects, and what root can do to them: what `bpftool` would.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// `enum bpf_cmd` of linux/bpf.h.
const MAP_GET_NEXT_KEY: i32 = 4;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_DETACH: i32 = 34;

/// `enum bpf_map_type` of linux/bpf.h: those whose entries come and go.
const HASHES: [u32; 2] = [1, 9];

/// `bpftool link detach pinned PIN`.
///
/// # Errors
/// The kernel's.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let link = open(pin)?;
    // link_fd.
    call(LINK_DETACH, &[pair(link.as_raw_fd(), 0), 0, 0])?;
    Ok(())
}

/// How many entries the hashes that are pinned in a directory have, by name.
///
/// # Errors
/// When something else is pinned there, or the kernel does not tell.
pub fn entries(maps: &Path) -> io::Result<BTreeMap<String, usize>> {
    let mut entries = BTreeMap::new();
    for pin in fs::read_dir(maps)? {
        let pin = pin?;
        let map = open(&pin.path())?;
        // struct bpf_map_info, as far as: type, id, key_size, value_size.
        let mut info = [0_u32; 4];
        let size = size_of_val(&info) as i32;
        let told = [pair(map.as_raw_fd(), size), pointer(info.as_mut_ptr()), 0];
        call(OBJ_GET_INFO_BY_FD, &told)?;
        if HASHES.contains(&info[0]) {
            let name = pin.file_name().to_string_lossy().into_owned();
            entries.insert(name, count(&map, info[2] as usize)?);
        }
    }
    Ok(entries)
}

/// Of a map that others change meanwhile, about as many.
fn count(map: &OwnedFd, key_size: usize) -> io::Result<usize> {
    let (mut key, mut next) = (vec![0_u8; key_size], vec![0_u8; key_size]);
    let mut count = 0;
    loop {
        // map_fd, key (none for the first), next_key.
        let after = if count == 0 { 0 } else { pointer(key.as_ptr()) };
        let attributes = [pair(map.as_raw_fd(), 0), after, pointer(next.as_mut_ptr())];
        match call(MAP_GET_NEXT_KEY, &attributes) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(count),
            Err(error) => return Err(error),
        }
        std::mem::swap(&mut key, &mut next);
    }
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    // pathname, bpf_fd and file_flags.
    let fd = call(OBJ_GET, &[pointer(path.as_ptr()), 0, 0])?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pair(first: i32, second: i32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

fn pointer<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// bpf(2), with the first 24 bytes of its attributes.
fn call(command: i32, attributes: &[u64; 3]) -> io::Result<i32> {
    let size = size_of_val(attributes);
    // SAFETY: the attributes are of the size given, and what they point to lives in the caller with room for what is written.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd as i32),
    }
}
