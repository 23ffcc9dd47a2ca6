-- Return the contacts of an identity, its primary first; with `at_most`, any that many of them (NULL: all). If the
-- first row has a linked_id, a merge has moved the identity since its primary was looked up.
CREATE OR REPLACE FUNCTION members(of_primary bigint, at_most bigint)
RETURNS TABLE (id bigint, email text, phone_number text, linked_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT contacts.id, contacts.email, contacts.phone_number, contacts.linked_id
    FROM (
        (SELECT c.id, c.email, c.phone_number, c.linked_id, c.created_at FROM contact c WHERE c.id = of_primary
         UNION ALL
         SELECT c.id, c.email, c.phone_number, c.linked_id, c.created_at FROM contact c WHERE c.linked_id = of_primary)
        -- A subquery: the planner would estimate a bare parameter, and plan the query anew for each request.
        LIMIT (SELECT at_most)
    ) AS contacts
    ORDER BY contacts.linked_id IS NOT NULL, contacts.created_at, contacts.id
$$;
