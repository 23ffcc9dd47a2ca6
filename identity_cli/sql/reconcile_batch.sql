-- Many requests on one wire, each a transaction of its own: COMMIT after every one of them. With
-- commit_each false (a dry run) all of it belongs to the caller's transaction.
--
-- A request that fails ends the call; those before it stand, and are found again by run and line.
CREATE OR REPLACE PROCEDURE reconcile_batch(
    emails text[],
    phones text[],
    request_at timestamptz[],
    run bigint,
    lines bigint[],
    commit_each boolean,
    INOUT outcomes text[] DEFAULT '{}',
    INOUT primary_ids bigint[] DEFAULT '{}',
    INOUT contact_ids bigint[] DEFAULT '{}'
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
BEGIN
    FOR i IN 1 .. cardinality(lines) LOOP
        result := reconcile(emails[i], phones[i], request_at[i], run, lines[i]);
        IF commit_each THEN
            COMMIT;
        END IF;
        outcomes[i] := result.outcome;
        primary_ids[i] := result.primary_id;
        contact_ids[i] := result.contact_id;
    END LOOP;
END $$;
