/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The two-phase hand-over between Ferry peers, from the moment when the source has sent the whole stream
 * to the end. Each step names the function of engine/ that it stands for.
 *
 * What may go wrong, at any moment and in any order: the link is cut (CUTS times; every message that was
 * not read yet may be lost with it, and a new connection works), either side gives up waiting, one of the two
 * processes is killed, the guest is cancelled, the digests differ, the vCPUs do not start at the destination
 * (BAD_STARTS times), the operator resolves a doubt on either side, or never does.
 *
 * Left out, since they change nothing here: ferry-resolve retry (the source asks again by itself whenever it
 * can), and the answer UNKNOWN of a destination that is another process (the doubt remains).
 *
 * Each BROKEN_... is a mistake that Spin must find, so that we know that the check can fail:
 *   BROKEN_RESUME_AFTER_COMMIT  the source takes the guest back when the link dies after COMMIT
 *   BROKEN_CANCEL_AFTER_COMMIT  cancel is obeyed after COMMIT
 *   BROKEN_DECIDE_TWICE         the destination obeys COMMIT although the operator discarded the guest
 *   BROKEN_DEAF_AFTER_RUNS      the destination stops listening once it sent the answer RUNS
 *   BROKEN_RUNS_TOO_EARLY       the destination answers RUNS while the vCPUs are only about to start
 */
#define CUTS       2
#define BAD_STARTS 2

mtype:record = { PREPARE, READY, COMMIT, RUNNING, DONE, ABORT, QUERY, STATE };
mtype:answer = { UNKNOWN, WAITING, RUNS, DISCARDED };
mtype:state = { ACTIVE, DEVICE, HANDOVER, LOST, COMPLETED, FAILED, CANCELLING, CANCELLED };
mtype:word = { NOTHING, RUN_HERE, DISCARD };

/* The connection. Its end shows once `up` is false; what is queued then may still arrive, or not. */
chan forth = [3] of { mtype:record };
chan back = [3] of { mtype:record, mtype:answer };
bool up = true;
bool listening = false; /* the destination is in accept() */

/* The source */
mtype:state s_state = DEVICE;
mtype:word s_word = NOTHING; /* source->resolve, while source->resolving */
bool s_alive = true, s_runs = false;
bool s_prepared = false;

/* The destination */
mtype:state d_state = ACTIVE;
mtype:answer d_answer = UNKNOWN;
bool d_alive = true, d_runs = false;
byte bad_starts = BAD_STARTS;

/* What happened, for the properties alone */
bool committed = false;        /* a COMMIT left the source */
bool released = false;         /* the destination gave the guest up, or the operator gave it to the source */
bool d_ran = false;
bool cancelled = false;
bool s_discarded = false;      /* the operator gave the guest to the destination */

inline send_forth(record) { if :: up -> forth!record :: else fi }
inline send_back(record, answer) { if :: up -> back!record, answer :: else fi }

/* ferry_vm_outgoing_end(STAYED) */
inline source_resumes()
{
	atomic {
		assert(!committed || released);
		s_runs = true;
		assert(!d_runs)
	}
}

/* ferry_incoming_take_over(), after ferry_destination_decide(RUNS) */
inline take_over()
{
	atomic {
		if
		:: d_alive ->
			d_runs = true;
			d_ran = true;
			d_state = COMPLETED;
			assert(!s_runs)
		:: d_alive && bad_starts > 0 ->
			bad_starts--;
			d_answer = WAITING;
			d_state = LOST
		:: !d_alive
		fi
	}
}

active proctype Source()
{
	mtype:answer answer;
	{
		/* handover.c prepare(); a cancel between the two finds no `prepared` and cuts the connection */
		atomic { send_forth(PREPARE) }
		s_prepared = true;
		if
		:: back?READY(_) ->
			if
			:: true       /* verify() */
			:: goto stay  /* the digests differ */
			fi
		:: goto stay          /* cut, refused, too late, cancelled */
		fi;

		/* two_phase(): whoever changes the state first, this or cancel, wins */
		atomic {
			if
			:: s_state == DEVICE -> s_state = HANDOVER
			:: else -> goto stay
			fi
		}

commit:		/* commit(), on whichever connection */
		atomic { committed = true; send_forth(COMMIT) }
		if
		:: back?RUNNING(_) ->
			atomic { send_forth(DONE) }
			goto moved
		:: true /* cut, or too late */
		fi;
#ifdef BROKEN_RESUME_AFTER_COMMIT
		goto stay;
#endif
#ifdef BROKEN_CANCEL_AFTER_COMMIT
		if
		:: s_state == CANCELLING -> goto stay
		:: else
		fi;
#endif

doubt:		/* in_doubt(): hang up, then ask or hear the operator */
		atomic { up = false; s_state = LOST }
		if
		:: atomic { s_word == RUN_HERE -> released = true; s_word = NOTHING }
			goto stay_alone
		:: s_word == DISCARD ->
			goto moved
		:: atomic { /* ask(): a new connection, taken by accept() */
				listening ->
				listening = false;
				do
				:: nempty(forth) -> forth?_
				:: nempty(back) -> back?_, _
				:: empty(forth) && empty(back) -> break
				od;
				up = true;
				forth!QUERY
			}
			if
			:: back?STATE(answer) ->
				if
				:: answer == RUNS -> goto moved
				:: answer == DISCARDED -> goto stay_alone
				:: answer == WAITING -> goto commit
				:: answer == UNKNOWN -> goto doubt
				fi
			:: goto doubt
			fi
		fi;

stay:		/* outgoing.c stay(): first the guest, then ABORT if the destination may be READY */
		source_resumes();
		atomic {
			if
			:: s_prepared -> send_forth(ABORT)
			:: else
			fi
		}
		goto stayed;

stay_alone:	/* stay() without a connection */
		source_resumes();

stayed:		atomic {
			up = false;
			s_state = (s_state == CANCELLING -> CANCELLED : FAILED)
		}
		goto end;

moved:		/* complete() */
		atomic {
			assert(d_ran || s_discarded);
			up = false;
			s_state = COMPLETED
		}
end:		skip
	} unless { !s_alive }
}

active proctype Destination()
{
	mtype:answer answer;
	{
		/* incoming-handover.c two_phase(), get_ready() */
		if
		:: forth?PREPARE -> skip
		:: !up -> atomic { d_state = FAILED; goto end }
		fi;
		atomic { d_answer = WAITING; d_state = HANDOVER; send_back(READY, UNKNOWN) }
		if
		:: forth?COMMIT -> goto commit
		:: forth?ABORT ->
			atomic { d_answer = DISCARDED; released = true; d_state = FAILED; up = false }
			goto end
		:: !up ->
			d_state = LOST
		fi;

listen:		/* destination.c listen_thread(), incoming.c greet(), ferry_incoming_query() */
		atomic { up = false; listening = true }
		!listening;
		if
		:: forth?QUERY -> skip
		:: !up -> goto listen
		fi;
		atomic {
#ifndef BROKEN_RUNS_TOO_EARLY
			d_answer != RUNS || d_state == COMPLETED;
#endif
			answer = d_answer;
			send_back(STATE, answer)
		}
		if
		:: answer == WAITING ->
			if
			:: forth?COMMIT -> goto commit
			:: !up -> goto listen
			fi
#ifdef BROKEN_DEAF_AFTER_RUNS
		:: answer == RUNS -> goto end
		:: answer == DISCARDED -> goto listen
#else
		:: answer != WAITING -> goto listen
#endif
		fi;

commit:		/* committed(): ferry_destination_decide(), then ferry_incoming_take_over() */
		atomic {
			if
#ifdef BROKEN_DECIDE_TWICE
			:: true -> d_answer = RUNS
#else
			:: d_answer == WAITING -> d_answer = RUNS
			:: else -> goto listen
#endif
			fi
		}
		take_over();
		atomic {
			if
			:: d_runs -> send_back(RUNNING, UNKNOWN)
			:: else -> goto listen
			fi
		}
		/* wait_for_done() */
		if
		:: forth?DONE -> skip
		:: !up -> goto listen
		fi;
end:		skip
	} unless { !d_alive }
}

active proctype Network()
{
	byte cuts = CUTS;

	do
	:: atomic { up && cuts > 0 -> up = false; cuts-- }
	:: break
	od
}

/* kill -9 of one side, or of none. */
active proctype Killer()
{
	if
	:: atomic { s_alive = false; s_runs = false; up = false }
	:: atomic { d_alive = false; d_runs = false; up = false; listening = false }
	:: true
	fi
}

/* Cancels, and resolves doubts. A sane operator: gives the guest to one side only while the other cannot have it. */
active proctype Operator()
{
	do
	:: atomic { /* ferry_source_cancel() */
#ifdef BROKEN_CANCEL_AFTER_COMMIT
		s_alive && (s_state == DEVICE || s_state == HANDOVER) ->
#else
		s_alive && s_state == DEVICE ->
#endif
		s_state = CANCELLING;
		cancelled = true;
		if
		:: !s_prepared -> up = false
		:: else
		fi
	   }
	:: atomic { /* ferry_source_resolve(): run here, the destination being dead or having discarded it */
		s_alive && s_state == LOST && (!d_alive || d_answer == DISCARDED) ->
		s_word = RUN_HERE
	   }
	:: atomic { /* ferry_source_resolve(): discard, the destination having it */
		s_alive && s_state == LOST && d_alive && (d_state == LOST || d_state == COMPLETED) &&
		d_answer != DISCARDED ->
		s_word = DISCARD;
		s_discarded = true
	   }
	:: atomic { /* ferry_destination_resolve(): discard, the source having it */
		d_alive && d_state == LOST && d_answer == WAITING && s_alive && s_state != COMPLETED &&
		!s_discarded ->
		d_answer = DISCARDED;
		released = true;
		d_state = FAILED
	   }
	:: atomic { /* ferry_destination_resolve(): run here. A source in doubt does not run it by itself. */
		d_alive && d_state == LOST && d_answer == WAITING &&
		(!s_alive || s_state == LOST || s_state == COMPLETED) ->
		d_answer = RUNS
	   }
	   take_over()
	:: break
	od
}

/* How everything may end. */
active proctype Judge()
{
	atomic {
		timeout ->
		/* Exactly one side runs it, or a live side holds it in doubt, or the side that had it was killed. */
		assert(s_runs + d_runs == 1 ||
		       (s_alive && s_state == LOST) || (d_alive && d_state == LOST) ||
		       (!s_alive && d_state == FAILED) ||
		       (!d_alive && s_state == COMPLETED));
		assert(s_alive || d_alive);
		/* Cancelled before the commit, it stays. */
		assert(!cancelled || !s_alive || (s_state == CANCELLED && s_runs));
		/* With both sides alive and a link that works again, the source is not left in doubt. */
		assert(!(s_alive && d_alive && s_state == LOST));
		/* The last of the two ran it before it was lost. */
		assert(!(!d_alive && s_state == COMPLETED) || d_ran || s_discarded)
	}
}

/* Never two, in any state whatever. */
ltl one_guest { [] !(s_runs && d_runs) }
