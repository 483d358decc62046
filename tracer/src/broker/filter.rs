//! The kernel's own filter on sockets, `INET_DIAG_REQ_BYTECODE`: keeps those with one of the given local ports, so that
//! a host's other connections are never copied out.

// `enum` in linux/inet_diag.h; S_EQ is there since 4.16.
const JMP: u8 = 1;
const S_EQ: u8 = 11;

/// Length of `struct inet_diag_bc_op`; a port comparison is two of them, the second holding the port.
const OP: usize = 4;
const COMPARISON: usize = 2 * OP;

/// `local port == a || local port == b …`, one comparison a port with a jump to the end between them. A program accepts
/// by ending exactly at its end and refuses by jumping one operation beyond.
pub(super) fn local_ports(ports: &[u16]) -> Vec<u8> {
    let mut code = Vec::with_capacity(ports.len() * (COMPARISON + OP));
    let mut after = ports.len();
    for port in ports {
        after -= 1;
        // What is left after this comparison.
        let rest = if after == 0 { 0 } else { after * (COMPARISON + OP) };
        // Equal: to the next operation, which is the jump, or the end. Not equal: over it.
        operation(&mut code, S_EQ, COMPARISON, COMPARISON + OP);
        operation(&mut code, 0, 0, usize::from(*port));
        if after > 0 {
            operation(&mut code, JMP, OP, rest);
        }
    }
    code
}

/// `struct inet_diag_bc_op`: what to do, and how far the next operation is if so and if not.
fn operation(code: &mut Vec<u8>, what: u8, if_so: usize, if_not: usize) {
    code.push(what);
    code.push(u8::try_from(if_so).unwrap_or(u8::MAX));
    code.extend(u16::try_from(if_not).unwrap_or(u16::MAX).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `inet_diag_bc_run` for these two operations.
    fn accepts(code: &[u8], port: u16) -> bool {
        let mut at = 0;
        while at < code.len() {
            let no = |at: usize| u16::from_ne_bytes([code[at + 2], code[at + 3]]);
            let yes = code[at] == S_EQ && no(at + OP) == port;
            assert!(yes || code[at] == S_EQ || code[at] == JMP);
            at += if yes { code[at + 1].into() } else { usize::from(no(at)) };
        }
        at == code.len()
    }

    #[test]
    fn keeps_the_ports_and_nothing_else() {
        let many: Vec<u16> = (0..64).map(|n| 5_000 + n * 7).collect();
        for ports in [&[5672][..], &[5671, 5672], &[0, 1, u16::MAX], &many] {
            let code = local_ports(ports);
            for port in 0..=u16::MAX {
                assert_eq!(accepts(&code, port), ports.contains(&port), "{port} of {ports:?}");
            }
        }
    }

    #[test]
    fn one_port_in_bytes() {
        assert_eq!(local_ports(&[5672]).len(), COMPARISON);
        let [low, high] = 5672_u16.to_ne_bytes();
        let [no_low, no_high] = 12_u16.to_ne_bytes();
        assert_eq!(local_ports(&[5672]), [S_EQ, 8, no_low, no_high, 0, 0, low, high]);
    }
}
