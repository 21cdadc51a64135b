//! bpf(2), where aya has no words for it.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// `enum bpf_cmd` of linux/bpf.h.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Command {
    ObjPin = 6,
    ObjGet = 7,
    ObjGetInfoByFd = 15,
    LinkCreate = 28,
}

/// A command that answers with a descriptor.
///
/// # Errors
/// The kernel's.
pub fn open(command: Command, attributes: &[u64; 2]) -> io::Result<OwnedFd> {
    let fd = call(command, attributes)?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Any command, with the first 16 bytes of its attributes.
///
/// # Errors
/// The kernel's.
pub fn call(command: Command, attributes: &[u64; 2]) -> io::Result<i32> {
    // SAFETY: the attributes are of the size given, and what they point to lives in the caller with room for what is written.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer as i32),
    }
}

/// Whether the process ids that BPF programs tell (`bpf_get_current_pid_tgid` of bpf-helpers(7): those of the initial PID namespace) are the
/// ones this process knows. In a container with a PID namespace of its own they are others' or nobody's.
#[must_use]
pub fn knows_all_processes() -> bool {
    /// `PROC_PID_INIT_INO` of linux/proc_ns.h.
    const INITIAL: &str = "pid:[4026531836]";
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == INITIAL)
}

/// Two 32-bit fields as they lie side by side.
pub const fn pair(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        (second as u64) << 32 | first as u64
    } else {
        (first as u64) << 32 | second as u64
    }
}

/// A pointer as a field.
pub fn pointer<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}
