//! Keys and values of the maps that are read and written by system call.

use dataplane::{abi, watch};

macro_rules! pod {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name(pub(crate) $inner);

        // SAFETY: `repr(transparent)` over a type of the ABI, all of which are `repr(C)` integers
        // without padding and valid for every bit pattern (see `dataplane::abi`).
        unsafe impl aya::Pod for $name {}
    )*};
}

pod! {
    /// Whose answers an agent watches.
    PodAddressKey(abi::AddressKey);
    /// What it knows of them.
    PodService(watch::Service);
    /// An endpoint.
    PodEndpoint(abi::Endpoint);
    /// Key of the names.
    PodNameKey(abi::NameKey);
    /// A name.
    PodName(abi::Name);
    /// The name of a field or a number of the layout.
    PodLayoutKey(abi::LayoutKey);
    /// Where it lies, or what it is.
    PodLayout(abi::Layout);
}
