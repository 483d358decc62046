//! The kernel side, in the order a connection meets it: [`set_state`] sees it established, [`reset`] marks resets on
//! it, [`set_state`] sees it close, [`emit`] writes its record. [`attempt`] sees those that never become one.

mod attempt;
mod emit;
mod maps;
mod packet;
mod reset;
mod set_state;
mod settings;
mod socket;
mod tracked;

/// Read by the kernel at load; several helpers used here are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this could be reached, so nothing ever runs it.
    loop {}
}
