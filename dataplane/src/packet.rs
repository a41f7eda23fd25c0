//! The packet, behind a trait: an XDP context in the kernel, a buffer on the host.
//!
//! [`Packet::view`] proves once that `N` bytes are there and returns a [`View`],
//! whose reads and writes at constant offsets cannot fail: the offset is checked
//! when the crate is compiled. In the kernel a view is a packet pointer that the
//! verifier has seen compared with the packet's end.

/// The greatest offset of a view: the verifier wants to know one.
pub const FARTHEST: usize = 0x7ff;

/// A frame, from its Ethernet header on.
pub trait Packet {
    /// `N` bytes of the packet; it borrows the packet, so it cannot outlive
    /// [`Packet::adjust_head`].
    type View<'a, const N: usize>: View<N>
    where
        Self: 'a;

    /// The `N` bytes at `offset`, which is at most [`FARTHEST`], or `None` if the packet ends before.
    fn view<const N: usize>(&self, offset: usize) -> Option<Self::View<'_, N>>;

    /// Bytes of the frame.
    fn len(&self) -> usize;

    /// True for a frame of no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Index of the interface it came in on.
    fn ingress(&self) -> u32;

    /// Moves the frame's beginning by `delta` bytes (negative: makes room);
    /// `None` if there is no room, then nothing has changed.
    fn adjust_head(&mut self, delta: i32) -> Option<()>;

    /// Does something in a function that is not inlined. Where the compiler saw that this only reads, it would read where it is called, and hand
    /// over the lower halves of pointers into the packet, which are no pointers.
    #[inline(always)]
    fn apart(&self, work: impl FnOnce(&Self))
    where
        Self: Sized,
    {
        work(self);
    }

    /// Leaves so many bytes of the frame, of which it has more; `None` if it cannot be, then nothing has changed.
    fn cut(&mut self, len: usize) -> Option<()>;
}

/// `N` bytes of a packet. Values are as they lie in memory: *network order*.
pub trait View<const N: usize>: Copy {
    /// Some of its bytes.
    type Part<const M: usize>: View<M>;
    /// The `M` bytes at `O`.
    fn part<const O: usize, const M: usize>(self) -> Self::Part<M>;
    /// The byte at `O`.
    fn u8<const O: usize>(self) -> u8;
    /// The 16 bits at `O`.
    fn u16<const O: usize>(self) -> u16;
    /// The 32 bits at `O`.
    fn u32<const O: usize>(self) -> u32;
    /// The 64 bits at `O`.
    fn u64<const O: usize>(self) -> u64;
    /// Writes the byte at `O`.
    fn set_u8<const O: usize>(self, value: u8);
    /// Writes the 16 bits at `O`.
    fn set_u16<const O: usize>(self, value: u16);
    /// Writes the 32 bits at `O`.
    fn set_u32<const O: usize>(self, value: u32);
}

#[cfg(any(test, feature = "host"))]
pub use host::{Buffer, BufferView};

#[cfg(any(test, feature = "host"))]
mod host {
    use super::{Packet, View};
    use core::cell::Cell;

    /// Bytes in front of a frame, as the kernel's `XDP_PACKET_HEADROOM`.
    const HEADROOM: usize = 256;

    /// A packet in ordinary memory.
    #[derive(Clone, Debug)]
    pub struct Buffer {
        bytes: Vec<Cell<u8>>,
        head: usize,
        ingress: u32,
        metadata: usize,
    }

    impl Buffer {
        /// A frame that came in on interface `ingress`.
        pub fn new(frame: &[u8], ingress: u32) -> Self {
            Self::with_metadata(frame, ingress, 0)
        }

        /// A frame before which a driver has put `metadata` bytes, which take from the headroom.
        pub fn with_metadata(frame: &[u8], ingress: u32, metadata: usize) -> Self {
            let bytes = core::iter::repeat_n(0, HEADROOM).chain(frame.iter().copied());
            Self { bytes: bytes.map(Cell::new).collect(), head: HEADROOM, ingress, metadata }
        }

        /// The frame as it is now.
        pub fn bytes(&self) -> Vec<u8> {
            self.bytes[self.head..].iter().map(Cell::get).collect()
        }
    }

    impl Packet for Buffer {
        type View<'a, const N: usize> = BufferView<'a, N>;

        fn view<const N: usize>(&self, offset: usize) -> Option<BufferView<'_, N>> {
            debug_assert!(offset <= super::FARTHEST, "the kernel would read elsewhere");
            self.bytes[self.head..].get(offset..)?.first_chunk().map(BufferView)
        }

        fn len(&self) -> usize {
            self.bytes.len() - self.head
        }

        fn ingress(&self) -> u32 {
            self.ingress
        }

        fn adjust_head(&mut self, delta: i32) -> Option<()> {
            let head = self.head.checked_add_signed(delta as isize)?;
            // bpf_xdp_adjust_head keeps an Ethernet header's length, its own frame record, and
            // the metadata.
            if head + 14 > self.bytes.len() || head < 40 + self.metadata {
                return None;
            }
            self.head = head;
            Some(())
        }

        fn cut(&mut self, len: usize) -> Option<()> {
            self.bytes.truncate(self.head + len);
            Some(())
        }
    }

    /// `N` bytes of a [`Buffer`].
    #[derive(Clone, Copy, Debug)]
    pub struct BufferView<'a, const N: usize>(&'a [Cell<u8>; N]);

    impl<const N: usize> BufferView<'_, N> {
        fn read<const L: usize>(self, offset: usize) -> [u8; L] {
            core::array::from_fn(|i| self.0[offset + i].get())
        }

        fn write<const L: usize>(self, offset: usize, value: [u8; L]) {
            for (cell, byte) in self.0[offset..].iter().zip(value) {
                cell.set(byte);
            }
        }
    }

    impl<'a, const N: usize> View<N> for BufferView<'a, N> {
        type Part<const M: usize> = BufferView<'a, M>;
        fn part<const O: usize, const M: usize>(self) -> BufferView<'a, M> {
            const { assert!(O + M <= N) }
            BufferView(self.0[O..].first_chunk().expect("checked when it was compiled"))
        }
        fn u8<const O: usize>(self) -> u8 {
            const { assert!(O < N) }
            self.0[O].get()
        }
        fn u16<const O: usize>(self) -> u16 {
            const { assert!(O + 2 <= N) }
            u16::from_ne_bytes(self.read(O))
        }
        fn u32<const O: usize>(self) -> u32 {
            const { assert!(O + 4 <= N) }
            u32::from_ne_bytes(self.read(O))
        }
        fn u64<const O: usize>(self) -> u64 {
            const { assert!(O + 8 <= N) }
            u64::from_ne_bytes(self.read(O))
        }
        fn set_u8<const O: usize>(self, value: u8) {
            const { assert!(O < N) }
            self.0[O].set(value);
        }
        fn set_u16<const O: usize>(self, value: u16) {
            const { assert!(O + 2 <= N) }
            self.write(O, value.to_ne_bytes());
        }
        fn set_u32<const O: usize>(self, value: u32) {
            const { assert!(O + 4 <= N) }
            self.write(O, value.to_ne_bytes());
        }
    }
}
