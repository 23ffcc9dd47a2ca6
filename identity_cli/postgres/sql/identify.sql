-- Reconcile a request and return the contacts of the identity that it led to, at most `at_most` of them (NULL: all):
-- one round trip for a caller that needs both. A request that led to none returns one row, without a contact.
CREATE OR REPLACE FUNCTION identify(emails text[], phones text[], at_most bigint)
RETURNS TABLE (
    id bigint, email text, phone_number text, linked_id bigint,
    outcome text, primary_id bigint, contact_id bigint, contact_ids bigint[]
)
LANGUAGE plpgsql AS $$
DECLARE
    result reconciliation;
BEGIN
    IF cardinality(emails) <= 1 AND cardinality(phones) <= 1 THEN
        result := reconcile(emails[1], phones[1]);
        IF result.contact_id = result.primary_id THEN
            -- A primary is the oldest contact of its identity, and this one is new: there is no other.
            RETURN QUERY SELECT c.id, c.email, c.phone_number, c.linked_id, result.*
                FROM contact AS c WHERE c.id = result.primary_id;
            RETURN;
        END IF;
    ELSE
        result := reconcile_request(emails, phones);
    END IF;
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM wait_for_disk();
    END IF;
    IF result.primary_id IS NULL THEN
        RETURN QUERY SELECT NULL::bigint, NULL, NULL, NULL::bigint, result.*;
        RETURN;
    END IF;
    RETURN QUERY SELECT member.*, result.* FROM members(result.primary_id, at_most) AS member;
END $$;

-- Let this transaction's COMMIT wait for the disk although it has written nothing. What it has read may come from
-- another session that commits without waiting, or from this one: then identity.durable_commit says how to wait.
CREATE OR REPLACE FUNCTION wait_for_disk() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN; -- a standby has only what is on the disk of its primary
    END IF;
    IF pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() OR current_setting('synchronous_standby_names') <> '' THEN
        PERFORM set_config('synchronous_commit', commit, true)
        FROM current_setting('identity.durable_commit', true) AS commit WHERE commit <> '';
        -- A message that nobody has to read: only a transaction that has written something waits.
        PERFORM pg_logical_emit_message(true, 'identity', '');
    END IF;
END $$;
