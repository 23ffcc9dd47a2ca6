-- The primary of a contact's identity as it was when `at_run` had come to `at_line`: merges that this run did
-- later are not followed. What a request that stored nothing was answered, after a crash took the answer away.
-- If a command has moved the contact, its primary of today.
CREATE OR REPLACE FUNCTION primary_at(of_contact bigint, at_run bigint, at_line bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE chain (evidence_id, id) AS (
        SELECT 0::bigint, coalesce(initial_linked_id, contact.id) FROM contact WHERE contact.id = of_contact
        UNION ALL
        SELECT merge.* FROM chain, LATERAL (
            -- A primary that was split off may have been merged again: the first merge after the one before.
            SELECT link_evidence.id, primary_id FROM link_evidence
            WHERE merged_id = chain.id AND link_evidence.id > chain.evidence_id
                AND (run_id = at_run AND line > at_line) IS NOT TRUE
            ORDER BY link_evidence.id LIMIT 1
        ) AS merge
    )
    SELECT CASE WHEN EXISTS (SELECT FROM contact_move WHERE contact_move.contact_id = of_contact)
        THEN (SELECT coalesce(linked_id, contact.id) FROM contact WHERE contact.id = of_contact)
        ELSE (SELECT id FROM chain ORDER BY evidence_id DESC LIMIT 1) END
$$;
