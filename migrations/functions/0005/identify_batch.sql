-- Reconcile many requests in one round trip, each in a transaction of its own: COMMIT after every one of them. Return the
-- contacts of the identities that they led to.
--
-- The lists are texts with an entry for each request and a line feed between two entries: a request has at most one email
-- and one phone number.
--
-- outcomes, primary_ids and contact_ids have an entry for each request that was tried; the contacts that it stored are
-- separated by spaces. The lists that begin with member have the contacts of the identities, at most at_most of each, with
-- the places of their requests, from 1.
--
-- A request that fails has no outcome and stores nothing, and sqlstates tells why; no request may keep the others waiting,
-- so the session limits locks and merges. After a lock that took too long, the requests that follow are not tried. Whatever
-- was not done is to be sent alone, with identify(). Where partners are counted, any request may make a hub and rework
-- a large identity: then outcomes is null, and nothing was done.
--
-- The session commits without waiting for the disk; the last commit waits for all of them.
CREATE OR REPLACE PROCEDURE identify_batch(
    email_list text,
    phone_list text,
    at_most bigint,
    INOUT outcomes text[] DEFAULT NULL,
    INOUT primary_ids bigint[] DEFAULT NULL,
    INOUT contact_ids text[] DEFAULT NULL,
    INOUT sqlstates text[] DEFAULT NULL,
    INOUT member_places bigint[] DEFAULT NULL,
    INOUT member_ids bigint[] DEFAULT NULL,
    INOUT member_emails text[] DEFAULT NULL,
    INOUT member_phones text[] DEFAULT NULL,
    INOUT member_links bigint[] DEFAULT NULL
)
LANGUAGE plpgsql AS $$
DECLARE
    emails CONSTANT text[] := string_to_array(email_list, E'\n', '');
    phones CONSTANT text[] := string_to_array(phone_list, E'\n', '');
    results reconciliation[];
    result reconciliation;
BEGIN
    IF rules_in_force() >= 2 THEN
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(emails) LOOP
        BEGIN
            result := reconcile(emails[i], phones[i]);
        EXCEPTION WHEN OTHERS THEN
            result := (NULL, NULL, NULL, NULL);
            sqlstates := sqlstates || SQLSTATE;
        END;
        -- Outside of the block: a transaction cannot end inside one that catches errors.
        COMMIT;
        results[i] := result;
        EXIT WHEN result.outcome IS NULL AND sqlstates[cardinality(sqlstates)] = '55P03';
    END LOOP;
    SELECT array_agg(outcome ORDER BY place), array_agg(primary_id ORDER BY place),
           array_agg(coalesce(array_to_string(answer.contact_ids, ' '), contact_id::text) ORDER BY place)
    INTO outcomes, primary_ids, contact_ids
    FROM unnest(results) WITH ORDINALITY AS answer (outcome, primary_id, contact_id, contact_ids, place);
    -- A sub-select hides the number of identities from the planner: knowing it, it would plan the query for each batch.
    SELECT array_agg(place), array_agg(id), array_agg(email), array_agg(phone_number), array_agg(linked_id)
    INTO member_places, member_ids, member_emails, member_phones, member_links
    FROM unnest((SELECT primary_ids)) WITH ORDINALITY AS identity (root, place),
        LATERAL members(root, identify_batch.at_most) AS member;
    PERFORM wait_for_disk();
END $$;
