//! A client of AMQP 0-9-1 that does exactly what it is told, also what no library does, and counts its bytes.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
};

use super::traffic::{Client, HEADER, connect};

const CONNECTION: u16 = 10;

/// Methods of the class connection.
mod method {
    pub const START: u16 = 10;
    pub const START_OK: u16 = 11;
    pub const TUNE: u16 = 30;
    pub const TUNE_OK: u16 = 31;
    pub const OPEN: u16 = 40;
    pub const OPEN_OK: u16 = 41;
    pub const CLOSE: u16 = 50;
    pub const CLOSE_OK: u16 = 51;
}

/// A connection to a broker.
pub struct Session {
    client: Client,
    /// Bytes sent so far.
    pub sent: u64,
    /// Bytes read so far.
    pub read: u64,
}

impl Session {
    /// Connects and says who it is, without waiting for what the broker thinks of it.
    pub fn introduce(source: IpAddr, broker: SocketAddr, password: &str) -> Self {
        let mut session = Self { client: connect(source, broker), sent: 0, read: 0 };
        session.write(&HEADER);
        session.expect(method::START);
        let response = format!("\0guest\0{password}");
        let mut arguments = vec![0; 4];
        arguments.extend(b"\x05PLAIN");
        arguments.extend(u32::try_from(response.len()).unwrap().to_be_bytes());
        arguments.extend(response.as_bytes());
        arguments.extend(b"\x05en_US");
        session.send(method::START_OK, &arguments);
        session
    }

    /// Connects and logs in.
    pub fn open(source: IpAddr, broker: SocketAddr) -> Self {
        let mut session = Self::introduce(source, broker, "guest");
        let tune = session.expect(method::TUNE);
        // As the broker would have it, but without heartbeats.
        let mut arguments = tune[..6].to_vec();
        arguments.extend([0, 0]);
        session.send(method::TUNE_OK, &arguments);
        session.send(method::OPEN, b"\x01/\0\0");
        session.expect(method::OPEN_OK);
        session
    }

    /// Ends it as the protocol wants, and then the connection with a FIN.
    pub fn close(mut self) -> Ended {
        self.send(method::CLOSE, b"\x00\xc8\x02ok\0\0\0\0");
        self.expect(method::CLOSE_OK);
        self.end(Client::finish)
    }

    /// Ends the connection with a RST.
    pub fn reset(self) -> Ended {
        self.end(Client::reset)
    }

    /// Waits until the broker ends the connection; what it says meanwhile is not counted.
    pub fn await_end(self) -> Ended {
        self.end(Client::await_end)
    }

    fn end(self, how: impl FnOnce(Client) -> SocketAddr) -> Ended {
        Ended { peer: how(self.client), sent: self.sent, read: self.read }
    }

    fn send(&mut self, method: u16, arguments: &[u8]) {
        let mut frame = vec![1, 0, 0];
        frame.extend(u32::try_from(4 + arguments.len()).unwrap().to_be_bytes());
        frame.extend(CONNECTION.to_be_bytes());
        frame.extend(method.to_be_bytes());
        frame.extend(arguments);
        frame.push(0xCE);
        self.write(&frame);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.client.stream().write_all(bytes).unwrap();
        self.sent += bytes.len() as u64;
    }

    /// Reads a frame and returns its arguments; it must be this method's.
    fn expect(&mut self, method: u16) -> Vec<u8> {
        let mut head = [0; 7];
        self.client.stream().read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
        self.client.stream().read_exact(&mut payload).unwrap();
        self.read += (head.len() + payload.len()) as u64;
        assert_eq!(head[0], 1, "a method's frame");
        let found = [&payload[..2], &payload[2..4]].map(|two| u16::from_be_bytes([two[0], two[1]]));
        assert_eq!(found, [CONNECTION, method]);
        payload[4..].to_vec()
    }
}

/// What a session was.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The address and port it came from.
    pub peer: SocketAddr,
    /// Bytes it sent.
    pub sent: u64,
    /// Bytes it read.
    pub read: u64,
}
