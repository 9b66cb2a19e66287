/*
 * The ring of sharedmem: who fills, reads, sleeps, wakes, dies, is detached and commits when.
 *
 * It follows crates/ipc-shm/src/ring.rs, server.rs and peer.rs and crates/ipc-core/src/peers.rs and
 * peer.rs, with one step for each access to memory that is shared and for each system call. What loom
 * checks besides, the orderings of memory, is left out here: all steps are seen by all at once. What
 * this has besides is death, at any step, of any peer and of the server; the kernel's part in it; and
 * the control channel and the commit.
 *
 * No wait ends by time here, but that for a peer that is dead. So a wake-up that is lost is a
 * deadlock, and Spin reports it. `cargo xtask model` runs it with all the sizes that are of interest.
 */

#ifndef PEERS
#define PEERS 2
#endif
#ifndef BLOCKS
#define BLOCKS 2 /* in the ring */
#endif
#ifndef BATCH
#define BATCH 1 /* blocks that the server waits for and fills at once */
#endif
#ifndef LAST
#define LAST 3 /* blocks in the source */
#endif
#ifndef DEATHS
#define DEATHS 1 /* processes that are killed, at most */
#endif
#ifndef DETACHMENTS
#define DETACHMENTS 1 /* peers that are detached, at most */
#endif

#define NOBODY PEERS

/* The segment. */
byte sequence_number;
byte bytes[BLOCKS];   /* which block of the source lies here, from 1 */
bool is_end[BLOCKS];  /* whether its length is 0 */
byte awaited_peer = NOBODY, awaited_reads; /* one word */
byte number_of_reads[PEERS];
bool is_idle[PEERS];
bool is_detached[PEERS];

/* The kernel: who sleeps on the sequence number, the semaphore, who is dead. */
bool is_asleep[PEERS];
byte semaphore;
bool is_dead[PEERS];
bool server_is_dead;

/* The control channels, and what has come of each peer. */
bool has_consumed[PEERS];  /* "I have stored everything" */
byte stored[PEERS];        /* blocks that it has stored then */
bool may_commit[PEERS];    /* "commit" */
bool outlives[PEERS];      /* the server's death is no longer its own */
bool has_name[PEERS];
bool has_ended[PEERS];

proctype Peer(byte me) {
	byte mine;      /* blocks stored */
	byte published;
	byte count, at;
	bool right;     /* whether all that was read is what should have been there */
	byte reached;   /* the number of reads that the server awaits of this peer; 0 is none */

	{
		skip;
look:
		published = sequence_number;
		if
		:: is_detached[me] -> goto rest
		:: else
		fi;
		assert(published - mine <= BLOCKS);
		d_step { count = 0; at = mine % BLOCKS };
		do
		:: count < published - mine && at + count < BLOCKS ->
			if
			:: is_end[at + count] ->
				if
				:: count == 0 -> goto end_of_file
				:: else -> break
				fi
			:: else -> count++
			fi
		:: else -> break
		od;
		if
		:: count == 0 ->
			is_idle[me] = true;
			/* The futex: the kernel looks and puts to sleep in one step. */
			atomic {
				if
				:: sequence_number == mine -> is_asleep[me] = true
				:: else
				fi
			};
			!is_asleep[me];
			goto look
		:: else
		fi;

		is_idle[me] = false;
		right = true;
		at = 0;
		do
		:: at < count ->
			d_step {
				right = right && bytes[(mine + at) % BLOCKS] == mine + at + 1;
				at++
			}
		:: else -> break
		od;
		number_of_reads[me] = mine + count;
		d_step {
			reached = (awaited_peer == me -> awaited_reads : 0);
		};
		if
		:: mine < reached && reached <= mine + count -> semaphore++
		:: else
		fi;
		if
		:: is_detached[me] -> goto rest /* takes back what it has just stored */
		:: else
		fi;
		d_step {
			assert(right);
			mine = mine + count;
			count = 0; at = 0; reached = 0; published = 0
		};
		goto look;

end_of_file:
#ifndef TRUSTS_ANY_END
		if
		:: is_detached[me] -> goto rest /* it was another block's length */
		:: else
		fi;
#endif
		goto done;

rest:
		mine = LAST; /* from the source, by itself */

done:
		stored[me] = mine;
		has_consumed[me] = true;
		may_commit[me];
		outlives[me] = true;
		atomic {
			assert(stored[me] == LAST);
			has_name[me] = true
		};
		has_ended[me] = true
	} unless { is_dead[me] || (server_is_dead && !outlives[me]) };
	/* The kernel closes what it had. */
	atomic { is_dead[me] = true; is_asleep[me] = false }
}

/* Whether the server has not yet heard that this peer has everything, or has ended. */
#define IS_RECEIVING(peer) (!has_consumed[peer] && !is_dead[peer])

proctype Server() {
	byte published;
	byte known[PEERS];   /* their numbers of reads, as last seen */
	bool left_out[PEERS];
	byte peer, needed, batch, room, count, slowest;
	byte detachments = DETACHMENTS;
	bool total_is_known, has_slept;

	{
		do
		:: batch = (published < LAST -> BATCH : 1);

wait_for_room:
			needed = (published + batch > BLOCKS -> published + batch - BLOCKS : 0);
			has_slept = false;
look:
			skip;
			/* The slowest of all who are not left out. */
			d_step { slowest = NOBODY; peer = 0 };
			do
			:: peer < PEERS ->
				d_step {
					if
					:: !left_out[peer] ->
						known[peer] = number_of_reads[peer];
						assert(known[peer] <= published);
						if
						:: slowest == NOBODY -> slowest = peer
						:: else ->
							if
							:: known[peer] < known[slowest] -> slowest = peer
							:: else
							fi
						fi
					:: else
					fi;
					peer++
				}
			:: else -> break
			od;
			if
			:: slowest == NOBODY -> goto has_room
			:: else ->
				if
				:: known[slowest] >= needed -> goto has_room
				:: has_slept && known[slowest] < needed -> goto update
				:: else
				fi
			fi;
			d_step { awaited_peer = slowest; awaited_reads = needed };
			if
#ifdef LOOKS_ONCE
			:: true ->
#else
			:: number_of_reads[slowest] < needed ->
#endif
				if
				:: semaphore > 0 -> semaphore--
				:: is_dead[slowest] /* its time is over */
				:: detachments > 0 -> /* so is its time, but it lives */
					detachments--;
					d_step { awaited_peer = NOBODY; awaited_reads = 0 };
					is_detached[slowest] = true;
					left_out[slowest] = true;
					total_is_known = true;
					goto update
				fi;
				has_slept = true
			:: else
			fi;
			d_step { awaited_peer = NOBODY; awaited_reads = 0 };
			goto look;

update:
			/* Listens to everybody, and leaves out who has no more to receive. */
			peer = 0;
			do
			:: peer < PEERS ->
				atomic {
					if
					:: has_consumed[peer] && total_is_known -> may_commit[peer] = true
					:: else
					fi;
					left_out[peer] = left_out[peer] || !IS_RECEIVING(peer);
					peer++
				}
			:: else -> break
			od;
			goto anybody_left;

has_room:
			peer = 0;
			do
			:: peer < PEERS && !left_out[peer] -> break
			:: peer < PEERS && left_out[peer] -> peer++
			:: peer == PEERS -> goto settle
			od;
			goto fill;

anybody_left:
			peer = 0;
			do
			:: peer < PEERS && !left_out[peer] -> goto wait_for_room
			:: peer < PEERS && left_out[peer] -> peer++
			:: peer == PEERS -> goto settle
			od;

fill:
			skip;
			/* As many free blocks as lie side by side; those of the source, and the one that ends it. */
			d_step {
				room = BLOCKS;
				peer = 0;
				do
				:: peer < PEERS ->
					if
					:: !left_out[peer] && BLOCKS - (published - known[peer]) < room ->
						room = BLOCKS - (published - known[peer])
					:: else
					fi;
					peer++
				:: else -> break
				od;
				count = room;
				if
				:: count > batch -> count = batch
				:: else
				fi;
				if
				:: count > BLOCKS - published % BLOCKS -> count = BLOCKS - published % BLOCKS
				:: else
				fi;
				if
				:: count > LAST - published -> count = (published < LAST -> LAST - published : 0)
				:: else
				fi;
				peer = 0
			};
			do
			:: peer < count ->
				bytes[(published + peer) % BLOCKS] = published + peer + 1;
				is_end[(published + peer) % BLOCKS] = false;
				peer++
			:: else -> break
			od;
			if
			:: published + count == LAST && count < room ->
				is_end[LAST % BLOCKS] = true;
				count++
			:: else
			fi;
			published = published + count;
			sequence_number = published;
			peer = 0;
			do
			:: peer < PEERS && !is_idle[peer] -> peer++
			:: peer < PEERS && is_idle[peer] ->
				d_step {
					peer = 0;
					do
					:: peer < PEERS -> is_asleep[peer] = false; peer++
					:: else -> break
					od
				};
				break
			:: peer == PEERS -> break
			od;
			if
			:: published == LAST + 1 -> break
			:: else
			fi
		od;

settle:
		total_is_known = true;
		do
		:: atomic {
				peer = 0;
				do
				:: peer < PEERS && has_consumed[peer] && !may_commit[peer] ->
					may_commit[peer] = true;
					break
				:: peer < PEERS && !(has_consumed[peer] && !may_commit[peer]) -> peer++
				:: peer == PEERS -> break
				od
			};
			if
			:: peer == PEERS ->
				/* Nothing to be said: waits until somebody says something or all have ended. */
				atomic {
					peer = 0;
					do
					:: peer < PEERS && is_dead[peer] -> peer++
					:: peer < PEERS && !is_dead[peer] -> break
					:: peer == PEERS -> goto reaped
					od
				};
				if
				:: has_consumed[peer] && !may_commit[peer]
				:: is_dead[peer]
				fi
			:: else
			fi
		od;
reaped:
		/* Whoever was not killed has stored everything. */
		skip
	} unless { server_is_dead };
	server_is_dead = true
}

bool was_killed[PEERS];
bool server_was_killed;

/* Kills anybody who lives, at any time, or nobody. */
proctype Killer() {
	byte deaths = DEATHS, peer;

	do
	:: deaths > 0 && !server_is_dead ->
		d_step { deaths--; server_was_killed = true; server_is_dead = true }
	:: deaths > 0 ->
		select(peer : 0 .. PEERS - 1);
		atomic {
			if
			:: !is_dead[peer] -> was_killed[peer] = true; is_dead[peer] = true
			:: else
			fi;
			deaths--;
			peer = 0
		}
	:: break
	od
}

init {
	byte peer;
	atomic {
		run Server();
		do
		:: peer < PEERS -> run Peer(peer); peer++
		:: else -> break
		od;
		run Killer()
	};
	/* Everybody has ended. Only what was killed, or lost its server, may have no name. */
	_nr_pr == 1;
	peer = 0;
	do
	:: peer < PEERS ->
		assert(has_name[peer] || was_killed[peer] || server_was_killed);
		peer++
	:: else -> break
	od
}
