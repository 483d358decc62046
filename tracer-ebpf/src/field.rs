//! The kernel structure members that the probes read, whose offsets the daemon takes from the running kernel's BTF.

/// A member of a kernel structure; the discriminant is its place in the `OFFSETS` global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// `sock_common.skc_family`, 2 bytes.
    Family = 0,
    /// `sock_common.skc_num`, 2 bytes: the local port in host order, 0 once the port is put back.
    LocalPort = 1,
    /// `sock_common.skc_dport`, 2 bytes: the remote port in network order.
    RemotePort = 2,
    /// `sock_common.skc_daddr`, 4 bytes.
    RemoteV4 = 3,
    /// `sock_common.skc_rcv_saddr`, 4 bytes.
    LocalV4 = 4,
    /// `sock_common.skc_v6_daddr`, 16 bytes.
    RemoteV6 = 5,
    /// `sock_common.skc_v6_rcv_saddr`, 16 bytes.
    LocalV6 = 6,
    /// `sock_common.skc_flags`, 8 bytes: bits of `enum sock_flags`.
    SocketFlags = 7,
    /// `sock_common.skc_net`, a pointer to `struct net`.
    Net = 8,
    /// `net.ns.inum`, 4 bytes.
    NetInode = 9,
    /// `sock.sk_err`, 4 bytes.
    Error = 10,
    /// `inet_sock.inet_sport`, 2 bytes: the local port in network order, kept until the socket is gone.
    StoredPort = 11,
    /// `tcp_sock.bytes_received`, 8 bytes; counts a FIN as one byte.
    BytesReceived = 12,
    /// `tcp_sock.bytes_sent`, 8 bytes; counts every retransmission again.
    BytesSent = 13,
    /// `tcp_sock.bytes_retrans`, 8 bytes.
    BytesRetransmitted = 14,
    /// `tcp_sock.data_segs_in`, 4 bytes.
    DataSegmentsIn = 15,
    /// `sock_common.skc_state`, 1 byte.
    State = 16,
    /// `sock.sk_ack_backlog`, 4 bytes: connections in a listener's accept queue.
    AcceptQueue = 17,
    /// `sock.sk_max_ack_backlog`, 4 bytes: how many it takes; it is full when there are more.
    AcceptQueueMost = 18,
    /// `tcp_request_sock.rcv_nxt`, 4 bytes: the next sequence number of a half-open connection, in host order.
    RequestNext = 19,
    /// `sk_buff.head`, a pointer to the packet's buffer.
    PacketHead = 20,
    /// `sk_buff.network_header`, 2 bytes: where the IP header is in the buffer.
    NetworkHeader = 21,
    /// `sk_buff.transport_header`, 2 bytes: where the TCP header is in the buffer.
    TransportHeader = 22,
    /// `sk_buff.dev`, a pointer to the `struct net_device` that the packet came in by.
    Device = 23,
    /// `net_device.nd_net`, a pointer to `struct net`.
    DeviceNet = 24,
}

impl Field {
    /// How many fields there are: the length of the `OFFSETS` global.
    pub const COUNT: usize = 25;
}
