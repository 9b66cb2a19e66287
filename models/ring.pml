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
bool may_commit[PEERS];    /* "commit" */
bool outlives[PEERS];      /* the server's death is no longer its own */
bool has_name[PEERS];

proctype Peer(byte me) {
	byte mine;      /* blocks stored */
	byte published, count, at;
	bool right;     /* whether all that was read is what should have been there */
	byte reached;   /* the number of reads that the server awaits of this peer; 0 is none */

	{
		skip;
look:
		published = sequence_number;
		atomic {
			if
			:: is_detached[me] -> goto rest
			:: else
			fi
		};
		atomic {
			assert(published - mine <= BLOCKS);
			at = mine % BLOCKS;
			do
			:: count < published - mine && at + count < BLOCKS && !is_end[at + count] -> count++
			:: count < published - mine && at + count < BLOCKS && is_end[at + count] ->
				if
				:: count == 0 -> goto end_of_file
				:: else -> break
				fi
			:: else -> break
			od;
			at = 0;
			published = 0;
			if
			:: count > 0 -> goto read
			:: else
			fi
		};

		/* Nothing to do but sleep. */
		is_idle[me] = true;
		/* The futex: the kernel looks and puts to sleep in one step. */
		atomic {
			if
			:: sequence_number == mine -> is_asleep[me] = true
			:: else
			fi
		};
		atomic { !is_asleep[me]; goto look };

read:
		atomic { is_idle[me] = false; right = true };
		do
		:: atomic {
				at < count ->
				right = right && bytes[(mine + at) % BLOCKS] == mine + at + 1;
				at++
			}
		:: atomic { at == count -> break }
		od;
		number_of_reads[me] = mine + count;
		reached = (awaited_peer == me -> awaited_reads : 0);
		atomic {
			if
			:: mine < reached && reached <= mine + count -> semaphore++
			:: else
			fi;
			reached = 0
		};
		atomic {
			if
			:: is_detached[me] -> goto rest /* and takes back what it has just stored */
			:: else
			fi;
			assert(right);
			mine = mine + count;
			count = 0; at = 0;
			goto look
		};

end_of_file:
		atomic {
			at = 0;
			published = 0;
#ifndef BELIEVES_ANY_END
			if
			:: is_detached[me] -> goto rest /* it was another block's length */
			:: else
			fi;
#endif
			goto done
		};

rest:
		mine = LAST; /* from the source, by itself */

done:
		atomic {
			count = 0; at = 0; published = 0; right = false;
			assert(mine == LAST);
			has_consumed[me] = true
		};
		may_commit[me];
		outlives[me] = true;
		has_name[me] = true
	} unless { is_dead[me] || (server_is_dead && !outlives[me]) };
	/* The kernel closes what it had. */
	atomic {
		is_dead[me] = true;
		is_asleep[me] = false;
		is_idle[me] = false;
		mine = 0; count = 0; at = 0; published = 0; right = false; reached = 0
	}
}

/* Whether the server has not yet heard that this peer has everything, or has ended. */
#define IS_RECEIVING(peer) (!has_consumed[peer] && !is_dead[peer])

proctype Server() {
	byte published;
	byte known[PEERS];   /* their numbers of reads, as last seen */
	bool left_out[PEERS];
	byte peer, needed, room, count, slowest;
	byte detachments = DETACHMENTS;
	bool has_slept, total_is_known;

	{
		skip;
wait_for_room:
		atomic {
			/* The last blocks may have left no room for the one that ends the file. */
			needed = published + (published < LAST -> BATCH : 1);
			needed = (needed > BLOCKS -> needed - BLOCKS : 0);
			has_slept = false
		};

look:
		/* For the slowest of all who are not left out. Numbers only grow, so it does not matter that
		   they are looked at in one step here. */
		atomic {
			do
			:: peer < PEERS ->
				if
				:: !left_out[peer] ->
					known[peer] = number_of_reads[peer];
					assert(known[peer] <= published)
				:: else
				fi;
				peer++
			:: peer == PEERS -> break
			od;
			peer = 0;
			slowest = NOBODY;
			do
			:: peer < PEERS && !left_out[peer] && (slowest == NOBODY || known[peer] < known[slowest % PEERS]) ->
				slowest = peer;
				peer++
			:: peer < PEERS && !(!left_out[peer] && (slowest == NOBODY || known[peer] < known[slowest % PEERS])) ->
				peer++
			:: peer == PEERS -> break
			od;
			peer = 0;
			if
			:: slowest == NOBODY -> goto give_up
			:: slowest != NOBODY && known[slowest % PEERS] >= needed -> goto fill
			:: slowest != NOBODY && known[slowest % PEERS] < needed && has_slept -> goto update
			:: else
			fi
		};
		d_step { awaited_peer = slowest; awaited_reads = needed };
		/* Looks at it once more: if it has read enough meanwhile, it wakes nobody. */
		atomic {
			known[slowest] = number_of_reads[slowest];
#ifndef LOOKS_ONCE
			if
			:: known[slowest] >= needed -> goto awake
			:: else
			fi
#endif
		};
		if
		:: atomic { semaphore > 0 -> semaphore--; has_slept = true }
		/* Time ends the wait for the dead ... */
		:: atomic { is_dead[slowest] -> has_slept = true }
		/* ... and for the slow. */
		:: atomic {
				detachments > 0 ->
				detachments--;
				awaited_peer = NOBODY; awaited_reads = 0
			};
			atomic { is_detached[slowest] = true; left_out[slowest] = true; total_is_known = true; goto update }
		fi;
awake:
		atomic { awaited_peer = NOBODY; awaited_reads = 0; goto look };

update:
		/* Listens to everybody, and leaves out who has no more to receive. */
		do
		:: atomic {
				peer < PEERS ->
				if
				:: has_consumed[peer] && total_is_known -> may_commit[peer] = true
				:: else
				fi;
				left_out[peer] = left_out[peer] || !IS_RECEIVING(peer);
				known[peer] = (left_out[peer] -> 0 : known[peer]);
				peer++
			}
		:: atomic { peer == PEERS -> peer = 0; slowest = 0; goto wait_for_room }
		od;

fill:
		/* As many free blocks as lie side by side; those of the source, and the one that ends it. */
		atomic {
			room = BLOCKS - (published - known[slowest]);
			slowest = 0;
			count = (published < LAST -> BATCH : 0);
			count = (count > room -> room : count);
			count = (count > BLOCKS - published % BLOCKS -> BLOCKS - published % BLOCKS : count);
			count = (count > LAST - published && published < LAST -> LAST - published : count)
		};
		do
		:: atomic { peer < count -> bytes[(published + peer) % BLOCKS] = published + peer + 1 };
			atomic { is_end[(published + peer) % BLOCKS] = false; peer++ }
		:: atomic {
				peer == count ->
				if
				:: published + count == LAST && count < room -> is_end[LAST % BLOCKS] = true; count++
				:: else
				fi;
				published = published + count;
				peer = 0; room = 0; count = 0;
				break
			}
		od;
		sequence_number = published;
		/* Wakes everybody if anybody is idle. */
		do
		:: atomic { peer < PEERS && !is_idle[peer] -> peer++ }
		:: atomic { peer < PEERS && is_idle[peer] -> break }
		:: atomic { peer == PEERS -> break }
		od;
		atomic {
			if
			:: peer < PEERS ->
				peer = 0;
				do
				:: peer < PEERS -> is_asleep[peer] = false; peer++
				:: peer == PEERS -> break
				od
			:: else
			fi;
			peer = 0;
			if
			:: published == LAST + 1 -> goto settle
			:: else -> goto wait_for_room
			fi
		};

give_up:
		/* Nobody is left to be waited for. Whoever was detached as it fell asleep must wake. */
		sequence_number = published + 1;
		atomic {
			do
			:: peer < PEERS -> is_asleep[peer] = false; peer++
			:: peer == PEERS -> break
			od;
			peer = 0
		};

settle:
		/* Nothing is left to be sent: hears who has everything, until all have ended. */
		do
		:: atomic { has_consumed[peer] && !may_commit[peer] -> may_commit[peer] = true }
		:: atomic { is_dead[peer] && peer < PEERS - 1 -> peer++ }
		:: atomic { is_dead[peer] && peer == PEERS - 1 -> break }
		od
	} unless { server_is_dead };
	atomic {
		server_is_dead = true;
		published = 0; needed = 0; room = 0; count = 0; slowest = 0; peer = 0; has_slept = false
	}
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
