//! Finds an eBPF toolchain and builds the kernel program.
