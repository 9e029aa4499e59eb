/* What BPF programs of TCP sockets see (include/uapi/linux/bpf.h, tcp.h): fixed by the kernel's user interface, so that
 * nothing of it is relocated. */
#pragma once

#include "kernel.h"

struct bpf_sock_ops {
	u32 op;
	union {
		u32 args[4];
		u32 reply;
	};
	u32 family;
	u32 remote_ip4;
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port;
	u32 local_port;
	u32 is_fullsock;
	u32 snd_cwnd;
	u32 srtt_us;
	u32 bpf_sock_ops_cb_flags;
	u32 state;
	u32 rtt_min;
	u32 snd_ssthresh;
	u32 rcv_nxt;
	u32 snd_nxt;
	u32 snd_una;
	u32 mss_cache;
	u32 ecn_flags;
	u32 rate_delivered;
	u32 rate_interval_us;
	u32 packets_out;
	u32 retrans_out;
	u32 total_retrans;
	u32 segs_in;
	u32 data_segs_in;
	u32 segs_out;
	u32 data_segs_out;
	u32 lost_out;
	u32 sacked_out;
	u32 sk_txhash;
	u64 bytes_received;
	u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		u64 : 64;
	} __attribute__((aligned(8)));
	union {
		void *skb_data;
		u64 : 64;
	} __attribute__((aligned(8)));
	union {
		void *skb_data_end;
		u64 : 64;
	} __attribute__((aligned(8)));
	u32 skb_len;
	u32 skb_tcp_flags;
};

enum {
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_PARSE_HDR_OPT_CB = 13,
	BPF_SOCK_OPS_HDR_OPT_LEN_CB = 14,
	BPF_SOCK_OPS_WRITE_HDR_OPT_CB = 15,
};
enum { BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG = 1 << 5, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG = 1 << 6 };
enum {
	BPF_WRITE_HDR_TCP_CURRENT_MSS = 1
}; /* args[0] of HDR_OPT_LEN_CB: no packet, only how long its options would be */

struct tcp_header { /* RFC 9293 §3.1 */
	u16 source;
	u16 destination;
	u32 seq;
	u32 acknowledged;
	u8 offset; /* of the data, in 32-bit words: the upper half */
	u8 flags;
	u16 window;
	u16 checksum;
	u16 urgent;
};
