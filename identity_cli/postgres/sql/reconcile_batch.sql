-- Many requests in one round trip, each in a transaction of its own: COMMIT after every one of them. If commit_each is
-- false (a dry run), all of it belongs to the caller's transaction. Times are in microseconds since 1970.
--
-- Request i has the email emails[i] and the phone number phones[i], each null if there is none. If it has several of a
-- kind, each of them is a line of this text, and are_several[i] is true; are_several is null if there is no such request.
-- contact_lists[i] holds the contacts that the request stored, separated by spaces, if they were several.
--
-- profile_version and profile_region are those of claim_profile(), as long as the database may hold no contact;
-- a null version: it is known to hold one of this profile.
--
-- What a concurrent request may cause is tried again for at most five minutes; where it may be a constraint of somebody
-- else, too, at most 50 times. A request that the database refuses all the same, or refuses for a reason of its own, fails
-- alone: its outcome is 'refused' and the SQLSTATE. A condition of the server (its disk, its shutdown, a missing part of the schema) is raised.
CREATE OR REPLACE PROCEDURE reconcile_batch(
    emails text[],
    phones text[],
    are_several boolean[],
    request_times bigint[],
    run bigint,
    run_lines bigint[],
    commit_each boolean,
    profile_version integer,
    profile_region text,
    INOUT outcomes text[] DEFAULT '{}',
    INOUT primary_ids bigint[] DEFAULT '{}',
    INOUT contact_ids bigint[] DEFAULT '{}',
    INOUT contact_lists text[] DEFAULT '{}',
    INOUT retries bigint DEFAULT 0
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
    results reconciliation[];
    failures integer;
    first_failure timestamptz;
    -- Somebody's constraint that is checked at the COMMIT would end the whole batch there.
    has_deferred_checks boolean := EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid IN ('contact'::regclass, 'link_evidence'::regclass) AND tgdeferrable
    );
BEGIN
    FOR i IN 1 .. cardinality(request_times) LOOP
        failures := 0;
        LOOP
            BEGIN
                IF profile_version IS NOT NULL THEN
                    PERFORM claim_profile(profile_version, profile_region);
                END IF;
                IF are_several[i] THEN
                    result := reconcile_request(string_to_array(emails[i], E'\n'), string_to_array(phones[i], E'\n'),
                                                'epoch'::timestamptz + request_times[i] * '1 microsecond'::interval,
                                                run, run_lines[i]);
                ELSE
                    result := reconcile(emails[i], phones[i],
                                        'epoch'::timestamptz + request_times[i] * '1 microsecond'::interval,
                                        run, run_lines[i]);
                END IF;
                IF has_deferred_checks THEN
                    SET CONSTRAINTS ALL IMMEDIATE;
                END IF;
                EXIT;
            EXCEPTION
                -- 23G01: a command has moved a value at the same moment.
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available OR SQLSTATE '23G01' THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    failures := failures + 1;
                    IF failures = 1 THEN
                        first_failure := clock_timestamp();
                    END IF;
                    EXIT WHEN failures >= 50 AND left(SQLSTATE, 2) = '23'
                        OR clock_timestamp() > first_failure + '5 minutes'::interval;
                    retries := retries + 1;
                    PERFORM pg_sleep(random() * least(failures, 50) / 1000);
                WHEN OTHERS THEN
                    IF left(SQLSTATE, 2) IN ('08', '25', '53', '57', '58', 'F0', 'XX')
                        OR SQLSTATE IN ('42P01', '42703', '42883', 'ID001', 'ID003') THEN
                        RAISE;
                    END IF;
                    result := ('refused ' || SQLSTATE, NULL, NULL, NULL);
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        -- One assignment: a transaction prepares each expression of PL/pgSQL anew, at about a microsecond.
        results[i] := result;
    END LOOP;
    IF results IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(outcome ORDER BY i), array_agg(primary_id ORDER BY i), array_agg(contact_id ORDER BY i),
           array_agg(array_to_string(result_contact_ids, ' ') ORDER BY i)
    INTO outcomes, primary_ids, contact_ids, contact_lists
    FROM unnest(results) WITH ORDINALITY AS r (outcome, primary_id, contact_id, result_contact_ids, i);
END $$;
