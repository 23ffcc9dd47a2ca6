-- The contacts of an identity, its primary first. A first row with a linked_id tells that a merge has moved it.
CREATE OR REPLACE FUNCTION members(of_primary bigint)
RETURNS TABLE (id bigint, email text, phone_number text, linked_id bigint)
LANGUAGE sql STABLE AS $$
    SELECT c.id, c.email, c.phone_number, c.linked_id FROM contact c
    WHERE c.id = of_primary OR c.linked_id = of_primary
    ORDER BY c.linked_id IS NOT NULL, c.created_at, c.id
$$;
