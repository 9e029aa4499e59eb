/* Only the kernel structs and fields that we touch; CO-RE relocates each field at load time, so order and offsets here
 * mean nothing. Sources: include/net/sock.h, inet_sock.h, inet_connection_sock.h, af_unix.h, linux/tcp.h, linux/fdtable.h,
 * arch/{x86,arm64}/include/asm/ptrace.h. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;
typedef u8 __u8;
typedef u16 __u16;
typedef u32 __u32;
typedef u64 __u64;
typedef s32 __s32;
typedef s64 __s64;
typedef u16 __be16;
typedef u32 __be32;
typedef u32 __wsum;
typedef _Bool bool;
enum { false, true };

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_SK_STORAGE = 24,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1,
	BPF_RB_NO_WAKEUP = 1,
	BPF_RB_FORCE_WAKEUP = 2,
};
enum { BPF_RB_AVAIL_DATA = 0, BPF_RB_RING_SIZE = 1 };
enum { AF_UNIX = 1, AF_INET = 2, AF_INET6 = 10 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17 };
enum { SOCK_STREAM = 1, SOCK_DGRAM = 2 };
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_FIN_WAIT1 = 4,
	TCP_TIME_WAIT = 6,
	TCP_CLOSE = 7,
	TCP_CLOSE_WAIT = 8,
	TCP_LISTEN = 10
};
enum { SEND_SHUTDOWN = 2, SHUTDOWN_BOTH = 3 };
enum { MSG_PEEK = 2 };
enum { O_NONBLOCK = 04000 };
enum { PF_FORKNOEXEC = 0x40 }; /* forked, and has not called exec */
enum { EEXIST = 17, EPIPE = 32, ENOSYS = 38, ECONNRESET = 104 };
enum { S_IFMT = 0170000, S_IFSOCK = 0140000 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct in6_addr {
	u8 s6_addr[16];
};
typedef struct {
	struct net *net;
} possible_net_t;
struct ns_common {
	u32 inum;
};
struct net {
	struct ns_common ns;
};
struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	u8 skc_state;
	possible_net_t skc_net;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct {
		s64 counter;
	} skc_cookie;
};
struct list_head {
	struct list_head *next;
};
struct wait_queue_head {
	struct list_head head;
};
typedef struct wait_queue_head wait_queue_head_t;
struct socket_wq {
	wait_queue_head_t wait;
};
struct inode {
	u16 i_mode;
	unsigned long i_ino;
};
struct file {
	struct inode *f_inode;
	void *private_data;
	unsigned int f_flags;
};
struct socket {
	struct sock *sk;
	struct file *file;
};
struct sock {
	struct sock_common __sk_common;
	u16 sk_protocol;
	u16 sk_type;
	u8 sk_shutdown;
	int sk_err;
	int sk_wmem_queued;
	int sk_sndbuf;
	struct socket_wq *sk_wq;
	struct socket *sk_socket;
};
enum sock_flags { SOCK_ZEROCOPY };
struct inet_bind_bucket {
	signed char fastreuse;
};
struct inet_connection_sock {
	struct inet_bind_bucket *icsk_bind_hash;
};
struct tcp_sock {
	u32 write_seq;
	u32 copied_seq;
	u32 rcv_nxt;
	u32 snd_una;
	u64 bytes_received;
	u64 bytes_acked;
	u32 total_retrans;
	u32 snd_nxt;
	u32 mss_cache;
};
struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};
struct fdtable {
	u32 max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
#if defined(__TARGET_ARCH_x86)
struct thread_struct {
	unsigned long fsbase;
};
#define THREAD_POINTER(TASK) BPF_CORE_READ(TASK, thread.fsbase)
#else
struct thread_struct {
	struct {
		unsigned long tp_value;
	} uw;
};
#define THREAD_POINTER(TASK) BPF_CORE_READ(TASK, thread.uw.tp_value)
#endif
struct nsproxy {
	struct net *net_ns;
};
struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	unsigned long nvcsw;
	struct task_struct *real_parent;
	struct thread_struct thread;
	struct files_struct *files;
	struct nsproxy *nsproxy;
	struct task_struct *group_leader;
	char comm[16];
};
struct bpf_map;
struct bpf_iter_meta;
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r14, bp, bx, r10, ax, cx, dx, si, di, orig_ax, ip, cs, sp;
};
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	u64 regs[31];
	u64 sp;
	u64 orig_x0;
	u64 pstate;
	s32 syscallno;
};
#else
#error "unsupported architecture"
#endif

#pragma clang attribute pop

/* Arguments and result of a user function, in its probe. */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT_1 di
#define ARGUMENT_2 si
#define ARGUMENT_4 cx
#define ARGUMENT(CTX, N) ((CTX)->ARGUMENT_##N)
#define RETURNED(CTX) ((CTX)->ax)
#else
#define ARGUMENT(CTX, N) ((CTX)->regs[(N)-1])
#define RETURNED(CTX) ((CTX)->regs[0])
#endif

/* User space layouts (include/uapi): the same on x86_64 and aarch64, and no subject of relocation. */
struct user_iovec {
	u64 base;
	u64 len;
};
struct user_msghdr64 {
	u64 name;
	u64 namelen;
	u64 iov;
	u64 iovlen;
	u64 control;
	u64 controllen;
	u64 flags;
};
struct user_mmsghdr64 {
	struct user_msghdr64 hdr;
	u64 len;
};
