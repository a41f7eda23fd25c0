//! An XDP context as a packet, and a socket buffer. All pointer access to packets is in this file.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::{TcContext, XdpContext},
};
use core::arch::asm;
use core::marker::PhantomData;
use dataplane::packet::{FARTHEST, Packet, View};

/// The frame of an XDP context.
pub struct XdpPacket<'c> {
    ctx: XdpContext,
    of: PhantomData<&'c XdpContext>,
}

impl<'c> XdpPacket<'c> {
    /// The frame of `ctx`.
    pub fn new(ctx: &'c XdpContext) -> Self {
        Self { ctx: XdpContext::new(ctx.ctx), of: PhantomData }
    }
}

impl Packet for XdpPacket<'_> {
    type View<'a, const N: usize>
        = XdpView<'a, N>
    where
        Self: 'a;

    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize) -> Option<XdpView<'_, N>> {
        let mut start = self.ctx.data();
        // SAFETY: an addition, written in assembly so that the compared and the used
        // pointer are one: computed in two ways, the verifier could not relate them.
        // No offset that the pipeline computes is above the mask; the verifier wants to know.
        unsafe {
            asm!("{p} += {o}", p = inout(reg) start, o = in(reg) offset & FARTHEST,
                options(pure, nomem, nostack));
        }
        if start + N > self.ctx.data_end() {
            return None;
        }
        Some(XdpView(start, PhantomData))
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn adjust_head(&mut self, delta: i32) -> Option<()> {
        // SAFETY: the context is the program's own; the helper checks the bounds.
        let failed = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, delta) };
        (failed == 0).then_some(())
    }

    #[inline(always)]
    fn apart(&self, work: impl FnOnce(&Self)) {
        let mut ctx = self.ctx.ctx as usize;
        // SAFETY: it is still the context. An instruction, because of none at a function's begin the debug information
        // would be such that the kernel refuses it.
        unsafe {
            asm!("{p} += 0", p = inout(reg) ctx, options(pure, nomem, nostack));
        }
        work(&Self { ctx: XdpContext::new(ctx as *mut xdp_md), of: PhantomData });
    }

    #[inline(always)]
    fn cut(&mut self, len: usize) -> Option<()> {
        let mut now = self.ctx.data_end();
        // SAFETY: a subtraction of two pointers, of which the compiler would take the lower halves before: those are no pointers.
        unsafe {
            asm!("{end} -= {start}", end = inout(reg) now, start = in(reg) self.ctx.data(),
                options(pure, nomem, nostack));
        }
        let delta = len as i32 - now as i32;
        // SAFETY: as above.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, delta) };
        (failed == 0).then_some(())
    }
}

/// What a socket buffer on its way out has in its linear part. It is only read.
pub struct SkbPacket<'c>(&'c TcContext);

impl<'c> SkbPacket<'c> {
    /// The packet of `ctx`.
    #[inline(always)]
    pub fn new(ctx: &'c TcContext) -> Self {
        Self(ctx)
    }

    /// Makes so many bytes linear, or all that it has; `None` if they are already, or cannot be. It may copy the packet.
    #[inline(always)]
    pub fn pull(&mut self, linear: u32) -> Option<()> {
        let len = self.0.len();
        let wanted = if len < linear { len } else { linear };
        if self.0.data_end() - self.0.data() >= wanted as usize {
            return None;
        }
        self.0.pull_data(wanted).ok()
    }
}

impl Packet for SkbPacket<'_> {
    type View<'a, const N: usize>
        = XdpView<'a, N>
    where
        Self: 'a;

    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize) -> Option<XdpView<'_, N>> {
        let mut start = self.0.data();
        // SAFETY: as for an XDP context.
        unsafe {
            asm!("{p} += {o}", p = inout(reg) start, o = in(reg) offset & FARTHEST,
                options(pure, nomem, nostack));
        }
        if start + N > self.0.data_end() {
            return None;
        }
        Some(XdpView(start, PhantomData))
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len() as usize
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn adjust_head(&mut self, _delta: i32) -> Option<()> {
        None
    }

    #[inline(always)]
    fn cut(&mut self, _len: usize) -> Option<()> {
        None
    }
}

/// `N` bytes of a frame: a packet pointer that was compared with the frame's end.
pub struct XdpView<'a, const N: usize>(usize, PhantomData<&'a ()>);

impl<const N: usize> Clone for XdpView<'_, N> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<const N: usize> Copy for XdpView<'_, N> {}

/// One load of the given width at a constant offset. In assembly, because headers are not aligned
/// to their fields, and for an unaligned load the compiler emits one for each byte.
macro_rules! load {
    ($load:ident, $int:ty, $asm:literal) => {
        #[inline(always)]
        fn $load<const O: usize>(self) -> $int {
            const { assert!(O + size_of::<$int>() <= N) }
            let value: u64;
            // SAFETY: `view` compared the pointer's N bytes with the frame's end, and
            // the access lies within them; x86 and arm64 allow it unaligned. A narrow load
            // clears the rest of the register, which saves masks.
            unsafe {
                asm!(concat!("{v} = *(", $asm, " *)({p} + {o})"), v = out(reg) value,
                    p = in(reg) self.0, o = const O, options(readonly, nostack));
                core::hint::assert_unchecked(value <= <$int>::MAX as u64);
            }
            value as $int
        }
    };
}

/// One store likewise, of a register's lower part.
macro_rules! store {
    ($store:ident, $int:ty, $asm:literal) => {
        #[inline(always)]
        fn $store<const O: usize>(self, value: $int) {
            const { assert!(O + size_of::<$int>() <= N) }
            // SAFETY: as above; XDP owns the frame.
            unsafe {
                asm!(concat!("*(", $asm, " *)({p} + {o}) = {v}"), v = in(reg) value,
                    p = in(reg) self.0, o = const O, options(nostack));
            }
        }
    };
}

impl<'a, const N: usize> View<N> for XdpView<'a, N> {
    type Part<const M: usize> = XdpView<'a, M>;

    #[inline(always)]
    fn part<const O: usize, const M: usize>(self) -> XdpView<'a, M> {
        const { assert!(O + M <= N) }
        XdpView(self.0 + O, PhantomData)
    }

    load!(u8, u8, "u8");
    load!(u16, u16, "u16");
    load!(u32, u32, "u32");
    load!(u64, u64, "u64");
    store!(set_u8, u8, "u8");
    store!(set_u16, u16, "u16");
    store!(set_u32, u32, "u32");
}
