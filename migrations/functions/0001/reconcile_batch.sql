-- Many requests on one wire, each a transaction of its own: COMMIT after every one of them. With
-- commit_each false (a dry run) all of it belongs to the caller's transaction. Times are in microseconds since 1970.
--
-- What a concurrent request may cause is tried again. A request that the database refuses all the same fails alone:
-- its outcome is 'refused' and the SQLSTATE.
CREATE OR REPLACE PROCEDURE reconcile_batch(
    emails text[],
    phones text[],
    clocks bigint[],
    run bigint,
    lines bigint[],
    commit_each boolean,
    INOUT outcomes text[] DEFAULT '{}',
    INOUT primary_ids bigint[] DEFAULT '{}',
    INOUT contact_ids bigint[] DEFAULT '{}',
    INOUT retries bigint DEFAULT 0
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
BEGIN
    FOR i IN 1 .. cardinality(clocks) LOOP
        FOR attempt IN 1 .. 50 LOOP
            BEGIN
                result := reconcile(emails[i], phones[i],
                                    'epoch'::timestamptz + clocks[i] * '1 microsecond'::interval, run, lines[i]);
                EXIT;
            EXCEPTION
                WHEN deadlock_detected OR serialization_failure OR foreign_key_violation OR unique_violation
                    OR lock_not_available THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL);
                    retries := retries + 1;
                    PERFORM pg_sleep(random() * attempt / 1000);
                WHEN integrity_constraint_violation OR data_exception OR raise_exception THEN
                    result := ('refused ' || SQLSTATE, NULL, NULL);
                    EXIT;
            END;
        END LOOP;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        IF commit_each THEN
            COMMIT;
        END IF;
        outcomes[i] := result.outcome;
        primary_ids[i] := result.primary_id;
        contact_ids[i] := result.contact_id;
    END LOOP;
END $$;
