//! What is known of a session's sockets, kept by the kernel with each of them: nothing to run out of, and nothing to forget.

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use core::{ffi::c_void, ptr};
use holdpoint_ebpf_common::SocketState;

/// A map definition as loaders read it from BTF. aya-ebpf's own leaves accepted sockets without their listener's value.
#[repr(C)]
pub struct Sockets {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketState,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the pointers are types for the loader; nobody follows them.
unsafe impl Sync for Sockets {}

#[btf_map]
pub static SOCKETS: Sockets = Sockets {
    r#type: ptr::null(),
    key: ptr::null(),
    value: ptr::null(),
    max_entries: ptr::null(),
    map_flags: ptr::null(),
};

impl Sockets {
    /// The state of a socket, if it is a session's. `sk` is what a context has in its field of that name, or the context
    /// itself where that is a socket. In a hook that holds the socket's lock nobody else writes; elsewhere (datagrams) two threads
    /// with one socket may see each other's address.
    #[inline(always)]
    pub fn state<'a>(&self, sk: *mut c_void) -> Option<&'a mut SocketState> {
        // SAFETY: the verifier takes valid sockets only, and the kernel's answer is null or a value that outlives the program.
        unsafe {
            bpf_sk_storage_get(self.map(), sk, ptr::null_mut(), 0)
                .cast::<SocketState>()
                .as_mut()
        }
    }

    /// Keeps the state of a new socket.
    #[inline(always)]
    pub fn insert(&self, sk: *mut c_void, state: &mut SocketState) -> Option<()> {
        // SAFETY: as above; `state` is copied.
        let kept = unsafe {
            bpf_sk_storage_get(
                self.map(),
                sk,
                ptr::from_mut(state).cast(),
                BPF_SK_STORAGE_GET_F_CREATE.into(),
            )
        };
        (!kept.is_null()).then_some(())
    }

    #[inline(always)]
    fn map(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}
